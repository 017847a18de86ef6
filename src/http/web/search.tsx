import { pullablePatterns } from '../../auth/access.ts'
import type { Hosts } from '../../auth/hosts/hosts.ts'
import { versionMatcher } from '../../registry/images/package-search.ts'
import type { QuestionQueryable } from '../../registry/questions.ts'
import { type FoundPlace, findMeanings, namedPackage } from '../../registry/search.ts'
import {
  buildPath,
  deploymentPath,
  hostPath,
  imagePath,
  inputsPath,
  kernelPath,
  packagePath,
  packageVersionsPath,
  repositoryPath,
  tagPath,
} from '../../web/paths.ts'
import { type SearchHit, SearchPage } from '../../web/search.tsx'
import { shortDigest } from '../../web/texts.ts'
import { hostRequesterOf } from '../api/enrolments.ts'
import { queryOnce, type Route, type RouteContext } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const ANY_HOST = { state: undefined, labels: undefined, repository: undefined, kernel: undefined }
const HOST_NAME_MAX = 64

/** The search: one exact hit is shown at once, several are listed. */
export function searchPages({ ask, auth: { hosts } }: Pick<PageDeps, 'ask' | 'auth'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/search',
      ...PAGE_ROUTE,
      access: 'publicRead',
      reads: 'question',
      async handle(ctx) {
        const text = textOf(ctx)
        const named = namedPackage(text)
        if (named !== undefined) {
          const { ecosystem, name, version } = named
          versionMatcher(ecosystem, version)
          goTo(ctx, packageVersionsPath(ecosystem, name, version))
          return
        }
        const db = ask(ctx)
        const isAnonymous = ctx.state.caller.kind === 'anonymous'
        const [meanings, host] =
          text === ''
            ? [[], []]
            : await Promise.all([
                findMeanings(db, text, pullablePatterns(ctx.state.caller)),
                isAnonymous ? [] : findHost(ctx, db, hosts, text),
              ])
        const hits = [
          // As in the API: only callers with a credential see deployments.
          ...meanings.filter(({ kind }) => kind !== 'deployment' || !isAnonymous).map(hitOf),
          ...host,
        ]
        const [first, ...others] = hits
        const isBeginning = first?.kind === 'repository' && first.name !== text
        if (first !== undefined && others.length === 0 && !isBeginning) {
          goTo(ctx, first.href)
          return
        }
        sendPage(ctx, {
          title: text === '' ? 'Search' : `Search for ${text}`,
          search: text,
          content: <SearchPage text={text} hits={hits} />,
        })
      },
    },
  ]
}

/** The text of the search; people paste references with the address of the registry before them. */
function textOf(ctx: RouteContext): string {
  const text = (queryOnce(ctx, 'q') ?? '').trim()
  const address = `${ctx.host}/`
  return text.startsWith(address) ? text.slice(address.length) : text
}

function goTo(ctx: RouteContext, path: string): void {
  ctx.status = 303
  ctx.redirect(path)
}

async function findHost(
  ctx: RouteContext,
  db: QuestionQueryable,
  hosts: Hosts,
  name: string,
): Promise<SearchHit[]> {
  if (name.length > HOST_NAME_MAX) return []
  // The first place of this name: ids begin with 1.
  const page = await hosts.list(db, ANY_HOST, { name, id: 0 }, 1, hostRequesterOf(ctx))
  return page.hosts
    .filter((host) => host.name === name)
    .map(() => ({ kind: 'host', name, href: hostPath(name), where: null }))
}

function hitOf(found: FoundPlace): SearchHit {
  const { kind, repository: where, text } = found
  switch (found.kind) {
    case 'image':
      return { kind, where, name: shortDigest(text), href: imagePath(found.repository, found.text) }
    case 'kernel':
      return { kind, where, name: shortDigest(text), href: kernelPath(found.text) }
    case 'inputs':
      return { kind, where, name: shortDigest(text), href: inputsPath(text) }
    case 'tag':
      return { kind, where, name: text, href: tagPath(found.repository, found.text) }
    case 'repository':
      return { kind, where: null, name: text, href: repositoryPath(found.repository) }
    case 'deployment':
      return { kind, where, name: text, href: deploymentPath(text) }
    case 'build':
      return { kind, where, name: text, href: buildPath(found.repository, text) }
    case 'package':
      return { kind: 'package of opam', where, name: text, href: packagePath('opam', text) }
  }
}
