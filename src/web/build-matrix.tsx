import type { BuildItem } from './build-item.ts'
import { DataTable, Section, State } from './elements.tsx'
import { inputsPath } from './paths.ts'

const ROWS_MAX = 10
const COLUMNS_MAX = 8

/** Builders and inputs: did each get the same kernel from the same inputs? Nothing when no inputs were built twice. */
export function BuildMatrix({ builds }: { builds: readonly BuildItem[] }) {
  // A reader who may not see builders sees platforms.
  const isMember = builds.some(({ builder }) => builder !== null)
  const makerOf = ({ builder, platform }: BuildItem) => (isMember ? builder : platform) ?? 'unknown'
  const byInput = new Map<string, BuildItem[]>()
  for (const build of builds) {
    if (build.inputId === null) continue
    byInput.set(build.inputId, [...(byInput.get(build.inputId) ?? []), build])
  }
  const repeated = [...byInput].filter(([, made]) => made.length > 1).slice(0, ROWS_MAX)
  if (repeated.length === 0) return null
  const makers = [...new Set(repeated.flatMap(([, made]) => made.map(makerOf)))]
    .sort()
    .slice(0, COLUMNS_MAX)
  return (
    <Section
      id="matrix"
      title="Who got the same from the same inputs"
      note="The builds of this page whose inputs were built more than once. The kernel of the first of them counts as the right one."
    >
      <DataTable
        caption={`${isMember ? 'Builders' : 'Platforms'} and inputs`}
        columns={['Inputs', ...makers]}
        rows={repeated.map(([inputId, made]) => {
          const expected = made.findLast(({ kernelDigest }) => kernelDigest !== null)?.kernelDigest
          return {
            key: inputId,
            cells: [
              <a href={inputsPath(inputId)}>
                <code title={inputId}>{inputId.slice(0, 12)}</code>
              </a>,
              ...makers.map((maker) => (
                <Cell
                  kernels={made
                    .filter((build) => makerOf(build) === maker)
                    .map(({ kernelDigest }) => kernelDigest)}
                  expected={expected}
                />
              )),
            ],
          }
        })}
      />
    </Section>
  )
}

function Cell({
  kernels,
  expected,
}: {
  kernels: readonly (string | null)[]
  expected: string | null | undefined
}) {
  if (kernels.length === 0) return <span class="faint">not built</span>
  if (kernels.some((kernel) => kernel !== null && kernel !== expected)) {
    return <State mood="bad">another</State>
  }
  if (kernels.includes(null)) return <State mood="bad">failed</State>
  return <State mood="good">same</State>
}
