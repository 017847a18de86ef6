import { badRequest } from './errors.ts'

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
    throw badRequest(`${right}, of at most ${GLOB_LENGTH_MAX} characters`, {
      detail: { pattern: text.slice(0, GLOB_LENGTH_MAX) },
    })
  }
  return text as Glob
}

type Step = { readonly kind: 'literal'; readonly text: string } | { readonly kind: '*' | '**' }

/** Takes time in proportion to the product of both lengths, whatever they are. */
export function matchesGlob(glob: Glob, text: string): boolean {
  const star = glob.indexOf('*')
  if (star === -1) return glob === text
  // Most comparisons end here, of one event with a thousand subscriptions.
  if (!text.startsWith(glob.slice(0, star))) return false
  if (glob === '**') return true
  return accepts(stepsOf(glob), text, (step, character) =>
    step.kind === 'literal' ? step.text === character : step.kind === '**' || character !== '/',
  )
}

/** True when any of them matches. */
export function matchesAnyGlob(globs: readonly Glob[], text: string): boolean {
  return globs.some((glob) => matchesGlob(glob, text))
}

/**
 * True only when whatever `inner` matches is matched by `outer`, too; false also where that is hard to
 * see. Takes time in proportion to the product of both lengths.
 */
export function coversGlob(outer: Glob, inner: Glob): boolean {
  const star = outer.indexOf('*')
  if (star === -1) return outer === inner
  if (!inner.startsWith(outer.slice(0, star))) return false
  // Like a text in which a star is one character, that only a star as wide or wider can take.
  return accepts(stepsOf(outer), stepsOf(inner), (step, taken) =>
    step.kind === 'literal'
      ? taken.kind === 'literal' && taken.text === step.text
      : step.kind === '**' || isWithinComponent(taken),
  )
}

function isWithinComponent(step: Step): boolean {
  return step.kind === 'literal' ? step.text !== '/' : step.kind === '*'
}

/** The same as a regular expression of Postgres, for names of repositories. */
export function postgresRegexOf(glob: Glob): string {
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

/** True when the steps can take all of `read`, one after the other. */
function accepts<T>(
  steps: readonly Step[],
  read: Iterable<T>,
  takes: (step: Step, one: T) => boolean,
): boolean {
  // Which numbers of steps can have taken what was read so far.
  let reached = afterStars(new Set([0]), steps)
  for (const one of read) {
    const next = new Set<number>()
    for (const index of reached) {
      const step = steps[index]
      if (step !== undefined && takes(step, one))
        next.add(step.kind === 'literal' ? index + 1 : index)
    }
    if (next.size === 0) return false
    reached = afterStars(next, steps)
  }
  return reached.has(steps.length)
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
