import type { Page } from 'playwright-core'
import { type StoredScripts, scriptLine, shortScript } from '../attacks/stored-scripts.ts'

/** A page with stored scripts. */
type InertPage = {
  /** Its paths for the stored content, some with scripts in parameters. */
  readonly paths: (stored: StoredScripts) => readonly string[]
  /** The fields of `storeScripts`, and the parameters, that an administrator reads there. */
  readonly shows: readonly string[]
}

const encoded = (field: string) => encodeURIComponent(scriptLine(field).slice(0, 240))
const short = (field: string) => encodeURIComponent(shortScript(field))

/** All pages by the path of their route. */
export const INERT_PAGES: Readonly<Record<string, InertPage>> = {
  '/': { paths: () => ['/', `/?last=${short('last')}`], shows: ['synopsis', 'actor'] },
  '/login': {
    paths: () => ['/login', `/login?next=${encoded('next')}`, '/login?next=javascript:ran(1)'],
    shows: [],
  },
  '/repositories': { paths: () => [`/repositories?last=${short('last')}`], shows: [] },
  '/search': {
    paths: () =>
      ['search', 'search-for-a-version'].flatMap((field) => [
        `/search?q=${encoded(field)}`,
        `/search?q=opam+${encoded(field)}`,
        `/search?q=hello/key:${short(field)}`,
      ]),
    shows: ['search'],
  },
  '/deployments': {
    paths: () => ['/deployments', `/deployments?state=${short('state')}`],
    shows: [],
  },
  '/deployments/:deployment': {
    paths: ({ deployment, cancelled, refused }) => [
      `/deployments/${deployment}`,
      `/deployments/${refused}`,
      `/deployments/${cancelled}`,
      `/deployments/${short('id')}`,
    ],
    shows: ['message', 'log', 'exit-meaning', 'actor', 'device'],
  },
  '/deployments/:deployment/stream': {
    paths: ({ deployment }) => [`/deployments/${deployment}/stream`],
    shows: [],
  },
  '/r/*repository': {
    paths: ({ repository }) => [`/r/${repository}`, `/r/${short('repository')}`],
    shows: ['synopsis', 'readme', 'actor'],
  },
  '/r/*repository/-/tags': {
    paths: ({ repository }) => [
      `/r/${repository}/-/tags`,
      `/r/${repository}/-/tags?last=${short('last')}`,
    ],
    shows: [],
  },
  '/r/*repository/-/tags/:tag': {
    paths: ({ repository, tag }) => [
      `/r/${repository}/-/tags/${tag}`,
      `/r/${repository}/-/tags/${short('tag')}`,
      `/r/${repository}/-/tags/${tag}?last=${short('last')}`,
    ],
    shows: ['actor'],
  },
  '/r/*repository/-/images': {
    paths: ({ repository }) => [
      `/r/${repository}/-/images`,
      `/r/${repository}/-/images?target=${short('target')}`,
    ],
    shows: ['actor'],
  },
  '/r/*repository/-/images/:reference': {
    paths: ({ repository, image, annotated }) => [
      `/r/${repository}/-/images/${image}`,
      `/r/${repository}/-/images/${annotated}`,
      `/r/${repository}/-/images/index`,
      `/r/${repository}/-/images/${short('reference')}`,
    ],
    shows: [
      ...['synopsis', 'readme', 'file-name', 'file-problem', 'device', 'distribution', 'actor'],
      ...['layer-title', 'artifact-type'],
    ],
  },
  '/r/*repository/-/images/:reference/graph': {
    paths: ({ repository, image }) => [
      `/r/${repository}/-/images/${image}/graph`,
      `/r/${repository}/-/images/${image}/graph?package=hello-key`,
      `/r/${repository}/-/images/${image}/graph?package=${short('package')}`,
    ],
    shows: ['vendored-folder'],
  },
  '/r/*repository/-/images/:reference/size': {
    paths: ({ repository, image }) => [`/r/${repository}/-/images/${image}/size`],
    shows: [
      ...['section', 'unnamed-section'],
      ...['symbol-of-c', 'symbol-of-solo5', 'symbol-of-library'],
    ],
  },
  '/r/*repository/-/compare/:pair': {
    paths: ({ repository, plain, image }) => [
      `/r/${repository}/-/compare/${plain}...${image}`,
      `/r/${repository}/-/compare/${image}...${plain}`,
      `/r/${repository}/-/compare/${short('pair')}...${image}`,
    ],
    shows: ['device', 'variable', 'distribution', 'vendored-folder', 'source-url'],
  },
  '/r/*repository/-/builds': {
    paths: ({ repository }) => [`/r/${repository}/-/builds`],
    shows: ['actor'],
  },
  '/r/*repository/-/builds/:build': {
    paths: ({ repository, build, failedBuild }) => [
      `/r/${repository}/-/builds/${build}`,
      `/r/${repository}/-/builds/${failedBuild}`,
      `/r/${repository}/-/builds/${short('build')}`,
    ],
    shows: ['console', 'failed-console', 'build-message', 'actor'],
  },
  '/packages': {
    paths: () => [
      `/packages?ecosystem=${short('ecosystem')}&name=${short('name')}`,
      `/packages?name=a&version=${short('version')}`,
    ],
    shows: [],
  },
  '/packages/:ecosystem/:name': {
    paths: () => [
      '/packages/opam/hello-key',
      `/packages/opam/${encoded('name')}`,
      `/packages/${short('ecosystem')}/a`,
      `/packages/opam/dune?version=${encoded('version')}`,
      `/packages/deb/${short('host-package')}`,
    ],
    shows: [],
  },
  '/kernels/:digest': {
    paths: ({ kernel }) => [`/kernels/${kernel}`, `/kernels/${short('digest')}`],
    shows: ['file-name', 'synopsis', 'actor'],
  },
  '/inputs/:inputId': {
    paths: ({ inputId }) => [`/inputs/${inputId}`, `/inputs/${short('input')}`],
    shows: ['actor'],
  },
  '/hosts': {
    paths: () => [
      '/hosts',
      `/hosts?state=${short('state')}&label=${short('label')}&last=${short('last')}`,
    ],
    shows: [],
  },
  '/hosts/:host': {
    paths: ({ host }) => [`/hosts/${host}`, `/hosts/${short('host')}`],
    shows: ['agent', 'log'],
  },
  '/credentials': {
    paths: () => ['/credentials', `/credentials?last=${short('last')}`],
    shows: [],
  },
  '/webhooks': { paths: () => ['/webhooks', `/webhooks?last=${short('last')}`], shows: [] },
  '/webhooks/:name': {
    paths: ({ webhook }) => [
      `/webhooks/${webhook}`,
      `/webhooks/${webhook}?state=${short('state')}`,
      `/webhooks/${webhook}?again=1&after=${short('after')}&until=${short('until')}&states=${short('states')}`,
      `/webhooks/${short('name')}`,
    ],
    shows: ['webhook-url', 'webhook-description'],
  },
  '/webhooks/:name/deliveries/:event': {
    paths: ({ webhook, event }) => [
      `/webhooks/${webhook}/deliveries/${event}`,
      `/webhooks/${webhook}/deliveries/${short('event')}`,
    ],
    shows: [],
  },
}

/** The fields of forms by the path of their route, each with a script. */
export const INERT_FORMS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '/login': { name: scriptLine('name').slice(0, 200), secret: 'x', next: 'javascript:ran(1)' },
  '/logout': {},
  '/r/*repository/-/tags/:tag/rollback': { digest: shortScript('digest') },
  '/deployments/:deployment/pause': { reason: shortScript('reason') },
  '/deployments/:deployment/resume': { reason: shortScript('reason') },
  '/deployments/:deployment/cancel': { reason: shortScript('reason') },
  '/deployments/:deployment/retry': { host: shortScript('host') },
  '/hosts/:host/approve': {
    repositories: shortScript('repositories'),
    name: shortScript('name'),
    networks: shortScript('networks'),
  },
  '/hosts/:host/revoke': { fingerprint: shortScript('fingerprint') },
  '/credentials/:name/revoke': { reason: shortScript('reason') },
  '/sessions/:session/end': { reason: shortScript('reason') },
  '/sessions/end-others': { reason: shortScript('reason') },
  '/webhooks/:name/pause': { reason: shortScript('reason') },
  '/webhooks/:name/resume': { reason: shortScript('reason') },
  '/webhooks/:name/test': { text: shortScript('text') },
  '/webhooks/:name/redeliver': {
    after: shortScript('after'),
    until: shortScript('until'),
    states: shortScript('states'),
  },
  '/webhooks/:name/deliveries/:event/redeliver': { text: shortScript('text') },
}

/** The parts of a page that a text could add, and its text. */
export type Contents = {
  /** Elements and attributes that no template makes, and links of other schemes than those of the web and of mail. */
  readonly foreign: readonly string[]
  readonly text: string
}

/** Reads the contents of the page that is open. */
export function readContents(page: Page): Promise<Contents> {
  return page.evaluate(() => {
    const ACTIVE =
      'img, iframe, object, embed, base, style, frame, audio, video, math, portal, template'
    const foreign: string[] = []
    const add = (element: Element) => foreign.push(element.outerHTML.slice(0, 200))
    for (const element of document.querySelectorAll(ACTIVE)) add(element)
    for (const script of document.querySelectorAll('script')) {
      if (!/^\/assets\/script\.js\?/.test(script.getAttribute('src') ?? '')) add(script)
      else if (script.textContent !== '') add(script)
    }
    for (const meta of document.querySelectorAll('meta[http-equiv], link[rel=stylesheet]')) {
      if (!/^\/assets\/style\.css\?/.test(meta.getAttribute('href') ?? '')) add(meta)
    }
    for (const element of document.querySelectorAll('*')) {
      for (const { name, value } of element.attributes) {
        if (name.startsWith('on') || name === 'style' || name === 'srcdoc') add(element)
        const isUrl = /^(?:href|src|action|formaction|data|ping|poster|background)$/.test(name)
        const isIcon = element.matches('link[rel=icon]') && value === 'data:,'
        if (!isUrl && name !== 'xlink:href') continue
        const { protocol, origin } = new URL(value, location.href)
        const isLoaded = !element.matches('a')
        if (!/^(?:https?|mailto):$/.test(protocol) && !isIcon) add(element)
        else if (isLoaded && origin !== location.origin && !isIcon) add(element)
      }
    }
    const fields = [...document.querySelectorAll('input')].map(({ value }) => value)
    const words = [document.title, document.body.textContent ?? '', ...fields]
    return { foreign, text: words.join('\n') }
  })
}
