import { administersAll, type Caller } from '../../auth/access.ts'
import { type Amount, DEFAULT_ROLLOUT, type Rollout } from '../../deployments/rollout.ts'
import type { MayManage, Rollouts, StoredRollout } from '../../deployments/rollout-management.ts'
import { badRequest, notFound, type RegistryError } from '../../oci/errors.ts'
import { type Glob, parseRepositoryGlob, parseTagGlob } from '../../oci/glob.ts'
import { pageByName } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { actorOf, param, type Route, type RouteContext } from '../route.ts'
import { type JsonFields, readFields } from './json-fields.ts'

const PATH = '/api/v1/rollouts'
const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/
const PATTERNS_MAX = 50
const PATTERNS_LENGTH_MAX = 4096
/** `name`, or a label as hosts have it. */
const ORDER = /^[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?$/
const UNITS_MAX = 100_000
const SETTLE_SECONDS_MAX = 3_600
const DEADLINE_SECONDS_MIN = 5
const DEADLINE_SECONDS_MAX = 86_400
const LABELS_MAX = 32
const LABEL_LENGTH_MAX = 63

/** Lists, shows, makes, replaces and removes rollouts. */
export function rolloutRoutes(rollouts: Rollouts, ask: AskQuestion): Route[] {
  return [
    {
      method: 'GET',
      path: PATH,
      access: 'authenticated',
      query: PAGE,
      reads: 'question',
      async handle(ctx) {
        const found = await pageByName(ctx, (last, limit) =>
          rollouts.list(ask(ctx), last, limit, rightsOf(ctx)),
        )
        ctx.body = { rollouts: found.map(rolloutJson) }
      },
    },
    {
      method: 'GET',
      path: `${PATH}/:name`,
      access: 'authenticated',
      reads: 'rows',
      async handle(ctx) {
        ctx.body = rolloutJson(await rollouts.find(nameOf(ctx), rightsOf(ctx)))
      },
    },
    {
      method: 'PUT',
      path: `${PATH}/:name`,
      access: 'authenticated',
      async handle(ctx) {
        const name = param(ctx, 'name')
        if (!NAME.test(name)) {
          throw badRequest(
            'a rollout must have a name of lower-case letters and digits, with . _ or - between them, at most 64',
          )
        }
        const rollout = { name, ...(await readFields(ctx, readRollout)) }
        const { isNew, ...stored } = await rollouts.put(rollout, actorOf(ctx), rightsOf(ctx))
        if (isNew) ctx.set('Location', `${PATH}/${name}`)
        ctx.status = isNew ? 201 : 200
        ctx.body = rolloutJson(stored)
      },
    },
    {
      method: 'DELETE',
      path: `${PATH}/:name`,
      access: 'authenticated',
      async handle(ctx) {
        await rollouts.remove(nameOf(ctx), actorOf(ctx), rightsOf(ctx))
        ctx.status = 204
      },
    },
  ]
}

function rightsOf({ state }: RouteContext): MayManage {
  const { caller }: { caller: Caller } = state
  return ({ repositories, tags }) => administersAll(caller, repositories, tags)
}

/** Throws NOT_FOUND for a name that no rollout can have. */
function nameOf(ctx: RouteContext): string {
  const name = param(ctx, 'name')
  if (NAME.test(name)) return name
  throw notFound('there is no rollout of this name')
}

/** Formats a rollout: spec/openapi.yaml, Rollout. */
function rolloutJson({ name, repositories, tags, policy, updatedAt }: StoredRollout) {
  return { name, repositories, tags, ...policy, updatedAt }
}

type Read = Omit<StoredRollout, 'name' | 'updatedAt' | 'createdBy'>

function readRollout(fields: JsonFields): Read {
  return {
    repositories: parseGlobs('repositories', fields.texts('repositories'), parseRepositoryGlob),
    tags: parseGlobs('tags', fields.optionalTexts('tags') ?? ['**'], parseTagGlob),
    policy: readPolicy(fields),
  }
}

function readPolicy(fields: JsonFields): Omit<Rollout, 'name'> {
  const { name: _, ...defaults } = DEFAULT_ROLLOUT
  const order = fields.optionalText('order') ?? defaults.order
  if (!ORDER.test(order)) throw invalid('order', 'must be name, or the name of a label')
  return {
    canary: amountOf(fields, 'canary', 0) ?? defaults.canary,
    batch: amountOf(fields, 'batch', 1) ?? null,
    order,
    settleSeconds:
      secondsOf(fields, 'settleSeconds', 0, SETTLE_SECONDS_MAX) ?? defaults.settleSeconds,
    deadlineSeconds:
      secondsOf(fields, 'deadlineSeconds', DEADLINE_SECONDS_MIN, DEADLINE_SECONDS_MAX) ??
      defaults.deadlineSeconds,
    pauseAfter: oneOf(fields, 'pauseAfter', ['canary', 'batch']) ?? null,
    maxFailures: amountOf(fields, 'maxFailures', 0) ?? defaults.maxFailures,
    onFailure: oneOf(fields, 'onFailure', ['halt', 'rollback']) ?? defaults.onFailure,
    require: labelsOf(fields),
  }
}

function parseGlobs(
  field: string,
  texts: readonly string[],
  parse: (text: string) => Glob,
): readonly Glob[] {
  const length = texts.join().length
  if (texts.length === 0 || texts.length > PATTERNS_MAX || length > PATTERNS_LENGTH_MAX) {
    throw invalid(
      field,
      `must have 1 to ${PATTERNS_MAX} patterns, with at most ${PATTERNS_LENGTH_MAX} characters in total`,
    )
  }
  return [...new Set(texts)].map(parse)
}

function amountOf(fields: JsonFields, name: string, min: number): Amount | undefined {
  const value = fields.raw(name)
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= UNITS_MAX) {
    return value
  }
  const percent = typeof value === 'string' ? /^(\d{1,3})%$/.exec(value)?.[1] : undefined
  if (percent !== undefined && Number(percent) >= min && Number(percent) <= 100) {
    return `${Number(percent)}%`
  }
  throw invalid(
    name,
    `must be a number of units from ${min} to ${UNITS_MAX}, or a share of them such as "25%"`,
  )
}

function secondsOf(fields: JsonFields, name: string, min: number, max: number): number | undefined {
  const value = fields.optionalNumber(name)
  if (value === undefined || (value >= min && value <= max)) return value
  throw invalid(name, `must be from ${min} to ${max} seconds`)
}

function oneOf<const T extends string>(
  fields: JsonFields,
  name: string,
  words: readonly T[],
): T | undefined {
  const text = fields.optionalText(name)
  const found = words.find((word) => word === text)
  if (text === undefined || found !== undefined) return found
  throw invalid(name, `must be one of ${words.join(', ')}`)
}

function labelsOf(fields: JsonFields): Readonly<Record<string, string>> {
  const labels = fields.optionalNamedTexts('require') ?? {}
  const texts = Object.entries(labels)
  const isShort = ([name, value]: [string, string]) =>
    ORDER.test(name) && value !== '' && value.length <= LABEL_LENGTH_MAX
  if (texts.length <= LABELS_MAX && texts.every(isShort)) return labels
  throw invalid(
    'require',
    `must have at most ${LABELS_MAX} labels, as hosts have them, with values of at most ${LABEL_LENGTH_MAX} characters`,
  )
}

function invalid(field: string, rule: string): RegistryError {
  return badRequest(`${field} ${rule}`, { field })
}
