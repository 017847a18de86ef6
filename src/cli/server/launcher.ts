import { readFileSync } from 'node:fs'

const WATCH_MILLISECONDS = 500

/**
 * Calls `onGone` once when npm, which started this process, ends. npm starts a shell that starts this process, and a
 * signal that ends one of them need not reach the others.
 */
export function watchLauncher(environment: NodeJS.ProcessEnv, onGone: () => void): void {
  const { npm_command, npm_lifecycle_event } = environment
  if (npm_command !== 'exec' && npm_lifecycle_event !== 'start') return
  const launchers = launcherPids()
  const timer = setInterval(() => {
    if (launcherPids() === launchers) return
    clearInterval(timer)
    onGone()
  }, WATCH_MILLISECONDS)
  timer.unref()
}

/** The pids of the parent and, on Linux, of its parent. A process gets another parent when its own ends. */
function launcherPids(): string {
  return `${process.ppid} ${parentOf(process.ppid)}`
}

function parentOf(pid: number): string | undefined {
  try {
    // |pid (name) state ppid ...|, where the name may have any characters.
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[1]
  } catch {
    return undefined
  }
}
