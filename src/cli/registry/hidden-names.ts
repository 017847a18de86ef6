/** Returns the name of a pusher, or `hidden`: a registry shows names only to members of the repository. */
export function nameText(name: string | null | undefined): string {
  return name ?? 'hidden'
}

/** Returns a line that says why names are hidden, when one is. */
export function hiddenLines(names: readonly (string | null | undefined)[]): string[] {
  if (names.every((name) => typeof name === 'string')) return []
  return ['hidden: only a login with rights to the repository sees who pushed.']
}
