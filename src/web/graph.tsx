import type { ComponentChildren } from 'preact'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { DependenciesDescription } from '../unikernel/dependencies/description.ts'
import {
  type DrawnPaths,
  type GraphPicture,
  LABEL_CHARACTERS_MAX,
  NODE_HEIGHT,
} from '../unikernel/dependencies/graph-picture.ts'
import { DataTable, Empty, Heading, Section } from './elements.tsx'
import { graphPath, imagePath, packagePath, repositoryPath } from './paths.ts'
import { counted, shortDigest } from './texts.ts'

/** A picture that is made in the background, or the reason why there is none. */
export type PictureState<T> =
  | { readonly state: 'made'; readonly picture: T }
  | { readonly state: 'being made' }
  | { readonly state: 'refused'; readonly problem: string }
  | { readonly state: 'missing' }

export type GraphView = {
  readonly repository: Repository
  readonly digest: Digest
  readonly content:
    | { readonly kind: 'paths'; readonly paths: DrawnPaths }
    | {
        readonly kind: 'all'
        readonly dependencies: DependenciesDescription
        readonly picture: PictureState<GraphPicture>
      }
}

/** The page of an image's dependencies: why a package is in it, and all of them. */
export function GraphPage({ view }: { view: GraphView }) {
  const { repository, digest, content } = view
  const page = graphPath(repository, digest)
  const name = content.kind === 'paths' ? content.paths.package : undefined
  return (
    <>
      <Heading
        trail={[
          { href: repositoryPath(repository), name: repository },
          { href: imagePath(repository, digest), name: shortDigest(digest) },
          ...(name === undefined ? [] : [{ href: page, name: 'Dependencies' }]),
        ]}
      >
        {name === undefined ? 'Dependencies' : `Why ${name} is in this image`}
      </Heading>
      <form class="ask" action={page} method="get">
        <label for="package">Why is this package in the image?</label>{' '}
        <input
          id="package"
          name="package"
          type="text"
          value={name ?? ''}
          maxlength={255}
          required
        />{' '}
        <button type="submit">Show the paths</button>
      </form>
      {content.kind === 'paths' ? <Paths paths={content.paths} /> : <Whole {...content} />}
    </>
  )
}

function Paths({ paths: view }: { paths: DrawnPaths }) {
  const { package: name, versions, paths, more, picture } = view
  if (versions.length === 0) return <Empty>The image has no package {name} of opam.</Empty>
  return (
    <>
      <p class="lead">
        <a href={packagePath('opam', name)}>{name}</a>{' '}
        {versions.map((version) => version ?? 'of unknown version').join(', ')}
      </p>
      {paths.length === 0 ? (
        <Empty>The package is in the image, but no recorded dependency needs it.</Empty>
      ) : (
        <Section
          id="paths"
          title="Paths"
          note="Each from a requested package to this one; the shortest are first."
        >
          {picture === null ? null : (
            <GraphDrawing
              picture={picture}
              name={`Paths to ${name}`}
              hrefOf={whyPath}
              marked={name}
            />
          )}
          <ol class="paths">
            {paths.map((path) => (
              <li key={path.map((one) => one.name).join(' ')}>
                {path.map((one, index) => (
                  <>
                    {index === 0 ? '' : ' → '}
                    <a href={whyPath(one.name)}>{one.name}</a>
                    {one.version === null ? '' : ` ${one.version}`}
                  </>
                ))}
              </li>
            ))}
          </ol>
          {more ? <p class="note">There may be further paths.</p> : null}
        </Section>
      )}
    </>
  )
}

function Whole({
  dependencies: { packages, omitted },
  picture,
}: {
  dependencies: DependenciesDescription
  picture: PictureState<GraphPicture>
}) {
  const dependents = new Map<string, number>()
  for (const { dependsOn } of packages) {
    for (const ref of dependsOn) dependents.set(ref, (dependents.get(ref) ?? 0) + 1)
  }
  const sorted = packages.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  return (
    <>
      <Section
        id="picture"
        title="Picture"
        note="An arrow points to a dependency. A dependency that follows from others is not drawn."
      >
        <PictureOrReason picture={picture} missing="The image was pushed without its opam switch.">
          {(made) => <GraphDrawing picture={made} name="Dependencies" hrefOf={whyPath} />}
        </PictureOrReason>
      </Section>
      <Section id="packages" title={counted(packages.length, 'package')}>
        {packages.length === 0 ? (
          <Empty>No package of opam is known: push the image with its opam switch.</Empty>
        ) : (
          <DataTable
            caption="Packages and the number of their dependencies"
            columns={[
              'Package',
              'Version',
              { name: 'Needs', kind: 'number' },
              { name: 'Needed by', kind: 'number' },
            ]}
            filter
            rows={sorted.map(({ ref, name, version, dependsOn }) => ({
              key: ref,
              cells: [
                <a href={whyPath(name)}>{name}</a>,
                version ?? <span class="faint">unknown</span>,
                dependsOn.length,
                dependents.get(ref) ?? 0,
              ],
            }))}
          />
        )}
        {omitted === 0 ? null : <p class="note">{omitted} are not shown.</p>}
      </Section>
    </>
  )
}

/** A picture, or words that say why there is none. */
export function PictureOrReason<T>({
  picture,
  missing,
  children,
}: {
  picture: PictureState<T>
  missing: string
  children: (made: T) => ComponentChildren
}) {
  switch (picture.state) {
    case 'made':
      return <>{children(picture.picture)}</>
    case 'being made':
      return <p role="status">The picture is being made. This page loads again in a moment.</p>
    case 'refused':
      return <Empty>There is no picture: {picture.problem}.</Empty>
    case 'missing':
      return <Empty>{missing}</Empty>
  }
}

/** Relative to the page, which has many of them. */
function whyPath(name: string): string {
  return `?package=${encodeURIComponent(name)}`
}

const TEXT_BASE = 4

/** A graph as SVG in a box that scrolls. Every node is a link. */
function GraphDrawing({
  picture: { width, height, nodes, edges },
  name,
  hrefOf,
  marked,
}: {
  picture: GraphPicture
  name: string
  hrefOf: (label: string) => string
  /** The label of the node that stands out. */
  marked?: string
}) {
  return (
    <section class="picture" tabindex={0} aria-label={`Picture: ${name}`}>
      <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`}>
        <title>{name}</title>
        <defs>
          <marker
            id="arrow"
            viewBox="0 0 8 8"
            refX="8"
            refY="4"
            markerWidth="7"
            markerHeight="7"
            orient="auto"
          >
            <path class="head" d="M0 0 8 4 0 8z" />
          </marker>
        </defs>
        <g class="edges" marker-end="url(#arrow)">
          {edges.map(({ from, to, points }) => (
            <path key={`${from} ${to}`} d={`M${points.join(' ')}`} />
          ))}
        </g>
        <g class="nodes" text-anchor="middle">
          {nodes.map(({ label, x, y, width: own }) => {
            const shown = cut(label, LABEL_CHARACTERS_MAX)
            return (
              <a key={label} href={hrefOf(label)} class={label === marked ? 'marked' : undefined}>
                {shown === label ? null : <title>{label}</title>}
                <rect x={Math.round(x - own / 2)} y={Math.round(y - NODE_HEIGHT / 2)} width={own} />
                <text x={Math.round(x)} y={Math.round(y + TEXT_BASE)}>
                  {shown}
                </text>
              </a>
            )
          })}
        </g>
      </svg>
    </section>
  )
}

/** Cuts a text that is longer than its place. The whole text is in the title beside it. */
export function cut(text: string, charactersMax: number): string {
  const characters = [...text]
  if (characters.length <= charactersMax) return text
  return `${characters.slice(0, Math.max(charactersMax - 1, 0)).join('')}…`
}
