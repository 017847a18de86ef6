/** A kernel follows at most this many links after each other, as on Linux. */
export const LINKS_FOLLOWED_MAX = 40
const PATH_CHARACTERS_MAX = 4_096

/**
 * Returns the path to which a path leads in the file system of a container: an absolute target begins at its root, and `..`
 * does not lead out of it. `linkAt` returns the target of the symbolic link at a path. Undefined for a loop, and for a path
 * that is too long.
 */
export function followLinks(
  path: string,
  linkAt: (path: string) => string | undefined,
): string | undefined {
  const left = componentsOf(path)
  const reached: string[] = []
  let followed = 0
  for (let part = left.pop(); part !== undefined; part = left.pop()) {
    if (part === '..') {
      reached.pop()
      continue
    }
    const at = [...reached, part].join('/')
    if (at.length > PATH_CHARACTERS_MAX) return undefined
    const target = linkAt(at)
    if (target === undefined) {
      reached.push(part)
      continue
    }
    followed += 1
    if (followed > LINKS_FOLLOWED_MAX) return undefined
    if (target.startsWith('/')) reached.length = 0
    left.push(...componentsOf(target))
  }
  return reached.join('/')
}

/** Returns the components of a path, the last one first. */
function componentsOf(path: string): string[] {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .reverse()
}
