import { readFileSync } from 'node:fs'

const WATCH_MILLISECONDS = 500

/**
 * Calls `onGone` once when npm, which started this process, ends. npm starts a shell that may start this process, and a
 * signal that ends one of them need not reach the others. The end of the process that started npm means nothing.
 */
export function watchLauncher(environment: NodeJS.ProcessEnv, onGone: () => void): void {
  const { npm_command, npm_lifecycle_event } = environment
  if (npm_command !== 'exec' && npm_lifecycle_event !== 'start') return
  const parent = process.ppid
  const grandparent = isNpm(parent) ? undefined : parentOf(parent)
  const watchesGrandparent = grandparent !== undefined && isNpm(grandparent)
  const timer = setInterval(() => {
    const isGone =
      process.ppid !== parent || (watchesGrandparent && parentOf(parent) !== grandparent)
    if (!isGone) return
    clearInterval(timer)
    onGone()
  }, WATCH_MILLISECONDS)
  timer.unref()
}

/** True for npm, which names its process after its command, such as `npm start`. False where there is no /proc. */
function isNpm(pid: number): boolean {
  return statOf(pid)?.name.startsWith('npm') ?? false
}

/** A process gets another parent when its own ends. */
function parentOf(pid: number): number | undefined {
  return statOf(pid)?.parent
}

function statOf(pid: number): { readonly name: string; readonly parent: number } | undefined {
  try {
    // |pid (name) state ppid ...|, where the name may have any characters.
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const end = text.lastIndexOf(')')
    const parent = Number(text.slice(end + 2).split(' ')[1])
    return { name: text.slice(text.indexOf('(') + 1, end), parent }
  } catch {
    return undefined
  }
}
