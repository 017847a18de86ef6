import type { Digest } from '../oci/digest.ts'
import { Empty, Facts, Heading, NextPage, Section } from './elements.tsx'
import { type ImageItem, ImageTable, targetText } from './image-table.tsx'
import { inputsPath } from './paths.ts'
import { type RunList, RunSection } from './run-table.tsx'
import { shortDigest } from './texts.ts'

export type KernelView = {
  readonly kernel: Digest
  /** Newest first. */
  readonly images: readonly (ImageItem & {
    readonly inputId: string | null
    readonly kernel: { readonly title: string | null }
  })[]
  /** True on the first page, which shows where the kernel runs. */
  readonly isNewest: boolean
  readonly next: string | undefined
  /** Undefined for a caller who may not see hosts. */
  readonly runs: RunList | undefined
}

/** The page of a kernel: which images have it, and where it runs or ran. */
export function KernelPage({ kernel, images, isNewest, next, runs }: KernelView) {
  const [newest] = images
  const inputs = [...new Set(images.flatMap(({ inputId }) => inputId ?? []))]
  return (
    <>
      <Heading>Kernel {shortDigest(kernel)}</Heading>
      <Facts
        facts={[
          ['Digest', <code>{kernel}</code>],
          ['File', newest?.kernel.title],
          ['Target', newest && targetText(newest)],
          [
            'Inputs',
            inputs.length === 0
              ? undefined
              : inputs.map((inputId, index) => (
                  <>
                    {index === 0 ? '' : ', '}
                    <a href={inputsPath(inputId)}>
                      <code title={inputId}>{shortDigest(inputId)}</code>
                    </a>
                  </>
                )),
          ],
        ]}
      />
      {isNewest ? (
        <RunSection
          title="Where it runs and ran"
          list={runs}
          none="No host reported that it ran."
        />
      ) : null}
      <Section id="images" title="Images with this kernel">
        {images.length === 0 ? (
          <Empty>No image that you may see has this kernel.</Empty>
        ) : (
          <ImageTable caption="Images with this kernel" images={images} showsRepository />
        )}
        <NextPage href={next} name="Earlier images" />
      </Section>
    </>
  )
}
