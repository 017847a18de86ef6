import { CREDENTIAL_KINDS, type Credentials } from '../../auth/credentials.ts'
import { badRequest } from '../../oci/errors.ts'
import { pageByName } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { actorOf, param, type Route, type RouteContext } from '../route.ts'
import { readFields, readOptionalFields } from './json-fields.ts'

const PATH = '/api/v1/credentials'

/** Creates, lists, rotates and revokes credentials. Only the responses to a POST have a secret. */
export function credentialRoutes(credentials: Credentials, ask: AskQuestion): Route[] {
  return [
    {
      method: 'POST',
      path: PATH,
      access: 'admin',
      async handle(ctx) {
        const request = await readRequest(ctx)
        const created = await credentials.create(request, actorOf(ctx))
        ctx.status = 201
        ctx.set({ 'Cache-Control': 'no-store', Location: `${PATH}/${request.name}` })
        ctx.body = { ...created.credential, secret: created.secret }
      },
    },
    {
      method: 'GET',
      path: PATH,
      access: 'admin',
      query: PAGE,
      reads: 'question',
      async handle(ctx) {
        const list = (last: string, limit: number) => credentials.list(last, limit, ask(ctx))
        ctx.body = { credentials: await pageByName(ctx, list) }
      },
    },
    {
      method: 'POST',
      path: `${PATH}/:name/rotate-secret`,
      access: 'admin',
      async handle(ctx) {
        const fields = await readOptionalFields(ctx, (body) => ({
          overlapSeconds: body.optionalNumber('overlapSeconds'),
        }))
        const rotated = await credentials.rotate(
          param(ctx, 'name'),
          fields?.overlapSeconds,
          actorOf(ctx),
        )
        ctx.set('Cache-Control', 'no-store')
        ctx.body = { ...rotated.credential, secret: rotated.secret }
      },
    },
    {
      method: 'DELETE',
      path: `${PATH}/:name`,
      inReadOnlyMode: true,
      access: 'admin',
      async handle(ctx) {
        await credentials.revoke(param(ctx, 'name'), actorOf(ctx))
        ctx.status = 204
      },
    },
  ]
}

function readRequest(ctx: RouteContext) {
  return readFields(ctx, (fields) => {
    const given = fields.optionalText('kind') ?? 'builder'
    const kind = CREDENTIAL_KINDS.find((one) => one === given)
    if (kind === undefined) throw badRequest(`kind must be ${CREDENTIAL_KINDS.join(' or ')}`)
    return {
      name: fields.text('name'),
      kind,
      repositories: fields.optionalTexts('repositories') ?? [],
      actions: fields.optionalTexts('actions') ?? [],
      tags: fields.optionalTexts('tags'),
      networks: fields.optionalTexts('networks'),
      expiresAt: fields.optionalTime('expiresAt'),
    } as const
  })
}
