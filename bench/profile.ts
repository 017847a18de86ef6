/** Reads V8's CPU profiles, and sums the time of functions in a span of time. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const FUNCTIONS_MAX = 25

interface ProfileNode {
  id: number
  callFrame: { functionName: string; url: string; lineNumber: number }
  children?: number[]
}

interface CpuProfile {
  nodes: ProfileNode[]
  /** Microseconds on the monotonic clock. */
  startTime: number
  samples: number[]
  timeDeltas: number[]
}

/** Returns the arguments with which Node writes a profile into `folder` when it exits. */
export function profileArguments(folder: string): string[] {
  return ['--cpu-prof', `--cpu-prof-dir=${folder}`]
}

export function readProfiles(folder: string): CpuProfile[] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.cpuprofile'))
  return names.map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as CpuProfile)
}

function describe({ callFrame }: ProfileNode, root: string): string {
  const { functionName, url, lineNumber } = callFrame
  const name = functionName || `(anonymous, line ${lineNumber + 1})`
  return `${name}  ${url.startsWith('file:') ? relative(root, fileURLToPath(url)) : url}`.trim()
}

/** Names each node; a function of Node also has the name of its caller in Rookery or a package. */
function nameNodes({ nodes }: CpuProfile, root: string): Map<number, string> {
  const parents = new Map<number, ProfileNode>()
  for (const node of nodes) for (const child of node.children ?? []) parents.set(child, node)
  const nameOf = (node: ProfileNode) => {
    const name = describe(node, root)
    if (node.callFrame.url.startsWith('file:')) return name
    let caller = parents.get(node.id)
    while (caller && !caller.callFrame.url.startsWith('file:')) caller = parents.get(caller.id)
    return caller ? `${name}  < ${describe(caller, root)}` : name
  }
  return new Map(nodes.map((node) => [node.id, nameOf(node)]))
}

/** Sums the self time in microseconds by function and file, between `start` and `end`. */
function sumSelfTimes(profile: CpuProfile, root: string, start: number, end: number) {
  const names = nameNodes(profile, root)
  const sums = new Map<string, number>()
  let at = profile.startTime
  profile.samples.forEach((id, index) => {
    const delta = profile.timeDeltas[index] ?? 0
    at += delta
    if (at < start || at > end) return
    const name = names.get(id) ?? '(unknown)'
    sums.set(name, (sums.get(name) ?? 0) + delta)
  })
  return sums
}

/** Lists the functions with the most self time, and their share of the busy time. */
export function describeHotFunctions(
  profiles: readonly CpuProfile[],
  root: string,
  { start, end }: { start: number; end: number },
): string[] {
  const sums = new Map<string, number>()
  for (const profile of profiles) {
    for (const [name, time] of sumSelfTimes(profile, root, start, end)) {
      if (name !== '(idle)') sums.set(name, (sums.get(name) ?? 0) + time)
    }
  }
  const busy = [...sums.values()].reduce((sum, time) => sum + time, 0)
  const hottest = [...sums].sort((a, b) => b[1] - a[1]).slice(0, FUNCTIONS_MAX)
  const share = (time: number) => `${((100 * time) / busy).toFixed(1)} %`.padStart(7)
  return [
    `${(busy / 1e6).toFixed(2)} s busy of ${((end - start) / 1e6).toFixed(2)} s`,
    ...hottest.map(([name, time]) => `${share(time)}  ${name}`),
  ]
}
