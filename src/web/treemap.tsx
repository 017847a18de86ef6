import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { ProgramSizes } from '../unikernel/sizes/program-sizes.ts'
import type { SizeTree } from '../unikernel/sizes/size-tree.ts'
import {
  HEADING_HEIGHT,
  type TreemapCell,
  type TreemapPicture,
} from '../unikernel/sizes/treemap-picture.ts'
import { Bytes, DataTable, Facts, Heading, Section, ShortDigest } from './elements.tsx'
import { cut, PictureOrReason, type PictureState } from './graph.tsx'
import { imagePath, repositoryPath } from './paths.ts'
import { bytesText, shortDigest } from './texts.ts'

/** A treemap with the sizes that it shows, and the file that they are of. */
export type DrawnSizes = {
  readonly treemap: TreemapPicture
  readonly sizes: Pick<ProgramSizes, 'sections' | 'tree'> & { readonly problem: string | null }
  readonly file: { readonly role: string; readonly digest: Digest; readonly size: number }
}

/** The page of an image's sizes: the sizes of the parts of its program. */
export function SizePage({
  repository,
  digest,
  picture,
}: {
  repository: Repository
  digest: Digest
  picture: PictureState<DrawnSizes>
}) {
  return (
    <>
      <Heading
        trail={[
          { href: repositoryPath(repository), name: repository },
          { href: imagePath(repository, digest), name: shortDigest(digest) },
        ]}
        note="The bytes that are loaded into memory, by library, module and function."
      >
        Sizes of the parts
      </Heading>
      <PictureOrReason picture={picture} missing="The image has no kernel that could be read.">
        {(drawn) => <Sizes drawn={drawn} />}
      </PictureOrReason>
    </>
  )
}

/** Parts in the table: more than these are hardly compared. */
const ROWS_MAX = 60

function Sizes({ drawn: { treemap, sizes, file } }: { drawn: DrawnSizes }) {
  const { tree, sections, problem } = sizes
  const isTwin = file.role === 'debug'
  const parts = partsOf(tree).toSorted((a, b) => b.bytes - a.bytes)
  const share = (bytes: number) =>
    tree.bytes === 0 ? '' : `${((100 * bytes) / tree.bytes).toFixed(1)} %`
  return (
    <>
      <Facts
        facts={[
          ['Loaded', <Bytes count={tree.bytes} />],
          ['Read from', isTwin ? 'the debug twin' : 'the kernel: no debug twin was pushed'],
          ['File', <ShortDigest digest={file.digest} />],
        ]}
      />
      {problem === null ? null : <p class="note">Only sections are known: {problem}.</p>}
      <Treemap picture={treemap} />
      <div class="columns">
        <Section id="parts" title="Largest parts">
          <DataTable
            caption="The largest parts of the program"
            columns={['Part', { name: 'Size', kind: 'number' }, { name: 'Share', kind: 'number' }]}
            filter
            rows={parts.slice(0, ROWS_MAX).map(({ path, bytes }) => ({
              key: path.join('/'),
              cells: [path.join(' / '), <Bytes count={bytes} />, share(bytes)],
            }))}
          />
        </Section>
        <Section id="sections" title="Sections">
          <DataTable
            caption="The sections of the file"
            columns={[
              'Section',
              { name: 'Size', kind: 'number' },
              { name: 'Share', kind: 'number' },
            ]}
            rows={sections.map(({ name, bytes }, index) => ({
              key: `${index}`,
              cells: [<code>{name}</code>, <Bytes count={bytes} />, share(bytes)],
            }))}
          />
        </Section>
      </div>
    </>
  )
}

type Part = { readonly path: readonly string[]; readonly bytes: number }

/** Lists parts down to libraries: what is below the root and below each of its children. */
function partsOf({ children = [] }: SizeTree): Part[] {
  return children.flatMap(({ name, bytes, children: below }) =>
    below === undefined
      ? [{ path: [name], bytes }]
      : below.map((one) => ({ path: [name, one.name], bytes: one.bytes })),
  )
}

const SHADES = 6
const CHARACTER_WIDTH = 7
const TEXT_MARGIN = 4
const TEXT_BASE = 12
const CHARACTERS_MIN = 3

/** A treemap as SVG in a box that scrolls. The title of each part has its whole name and its bytes. */
function Treemap({ picture: { width, height, cells } }: { picture: TreemapPicture }) {
  const libraries = [...new Set(cells.map(({ path }) => keyOf(path)))]
  const shades = new Map(libraries.map((key, index) => [key, index % SHADES]))
  return (
    <section class="picture" tabindex={0} aria-label="Picture: sizes of the parts">
      <svg class="whole" width={width} height={height} viewBox={`0 0 ${width} ${height}`}>
        <title>Sizes of the parts</title>
        {cells.map((cell) => (
          <Cell key={cell.path.join('/')} cell={cell} shade={shades.get(keyOf(cell.path)) ?? 0} />
        ))}
      </svg>
    </section>
  )
}

/** Parts of one library have one shade. */
function keyOf(path: readonly string[]): string {
  return path.slice(0, 2).join('/')
}

function Cell({ cell, shade }: { cell: TreemapCell; shade: number }) {
  const { path, bytes, x, y, width, height, isLeaf } = cell
  const room = Math.floor((width - 2 * TEXT_MARGIN) / CHARACTER_WIDTH)
  const hasText = room >= CHARACTERS_MIN && height >= HEADING_HEIGHT
  return (
    <g class={isLeaf ? `cell shade-${shade}` : 'cell part'}>
      <title>{`${path.join(' / ')}: ${bytesText(bytes)}`}</title>
      <rect x={x} y={y} width={width} height={height} />
      {hasText ? (
        <text x={x + TEXT_MARGIN} y={y + TEXT_BASE}>
          {cut(path.at(-1) ?? '', room)}
        </text>
      ) : null}
    </g>
  )
}
