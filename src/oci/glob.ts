import { OciError } from './errors.ts'

/** Made only by the functions below: `*` stands for anything but `/`, `**` for anything. */
export type Glob = string & { readonly __type: 'Glob' }

// As long as what they are compared with, so that comparing stays a matter of microseconds.
const GLOB_LENGTH_MAX = 255
const REPOSITORY_GLOB = /^[a-z0-9._*-]+(?:\/[a-z0-9._*-]+)*$/
const TAG_GLOB = /^[a-zA-Z0-9._*-]+$/

/** Such as `builds/*` (one component) or `builds/**` (any number). Throws REQUEST_INVALID. */
export function parseRepositoryGlob(text: string): Glob {
  return checked(text, REPOSITORY_GLOB, 'a repository pattern is a name with * or ** in it')
}

/** Such as `v*`. Throws REQUEST_INVALID. */
export function parseTagGlob(text: string): Glob {
  return checked(text, TAG_GLOB, 'a tag pattern is a tag with * in it')
}

/** For the values of claims, which may hold any characters. Throws REQUEST_INVALID. */
export function parseClaimGlob(text: string): Glob {
  return checked(text, /^[^\0]+$/, 'a condition is a value with * or ** in it')
}

function checked(text: string, allowed: RegExp, right: string): Glob {
  if (text.length > GLOB_LENGTH_MAX || !allowed.test(text)) {
    throw new OciError(
      'REQUEST_INVALID',
      { pattern: text.slice(0, GLOB_LENGTH_MAX) },
      { message: `${right}, of at most ${GLOB_LENGTH_MAX} characters` },
    )
  }
  return text as Glob
}

type Step = { readonly kind: 'literal'; readonly text: string } | { readonly kind: '*' | '**' }

/** Takes time in proportion to the product of both lengths, whatever they are. */
export function matchesGlob(glob: Glob, text: string): boolean {
  if (!glob.includes('*')) return glob === text
  const steps = stepsOf(glob)
  // Which numbers of steps can have matched what was read so far.
  let reached = afterStars(new Set([0]), steps)
  for (const character of text) {
    const next = new Set<number>()
    for (const index of reached) {
      const step = steps[index]
      if (step === undefined) continue
      if (step.kind === 'literal') {
        if (step.text === character) next.add(index + 1)
      } else if (step.kind === '**' || character !== '/') {
        next.add(index)
      }
    }
    if (next.size === 0) return false
    reached = afterStars(next, steps)
  }
  return reached.has(steps.length)
}

/** True when any of them matches. */
export function matchesAny(globs: readonly Glob[], text: string): boolean {
  return globs.some((glob) => matchesGlob(glob, text))
}

/** The same as a regular expression of Postgres, for names of repositories. */
export function expressionOf(glob: Glob): string {
  const parts = stepsOf(glob).map((step) => {
    if (step.kind === 'literal') return step.text.replace(/[.\\+?^${}()|[\]]/g, '\\$&')
    return step.kind === '*' ? '[^/]*' : '.*'
  })
  return `^${parts.join('')}$`
}

function stepsOf(glob: Glob): Step[] {
  return (glob.match(/\*\*+|./gsu) ?? []).map((text) => {
    if (text === '*') return { kind: '*' }
    return text.startsWith('**') ? { kind: '**' } : { kind: 'literal', text }
  })
}

/** A star may stand for nothing. */
function afterStars(reached: Set<number>, steps: readonly Step[]): Set<number> {
  for (const index of reached) {
    const step = steps[index]
    // A set is walked in the order of insertion, also over what is added on the way.
    if (step !== undefined && step.kind !== 'literal') reached.add(index + 1)
  }
  return reached
}
