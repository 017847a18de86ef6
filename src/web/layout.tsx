import type { ComponentChildren } from 'preact'

/** A file that pages load: its path, and the digest that a browser compares (Subresource Integrity). */
export type Asset = { readonly path: string; readonly integrity: string }

/** The reader of a page, by name. A session is the login of a browser, which can end. */
export type FrameCaller = {
  readonly name: string
  readonly hasSession: boolean
  /** True when the caller may have webhooks. */
  readonly mayHaveWebhooks: boolean
}

/** The parts of a page around its content. */
export type Frame = {
  /** The heading of the browser's window, before the name of the registry. */
  readonly title: string
  /** The host of the registry's address, such as `registry.example.org`. */
  readonly registry: string
  /** The path of the page, to which a login returns. */
  readonly path: string
  /** The caller; undefined for an anonymous one. */
  readonly caller: FrameCaller | undefined
  /** The text in the search field. */
  readonly search?: string | undefined
  readonly assets: { readonly style: Asset; readonly script: Asset }
  /** The same facts as JSON. */
  readonly json?: string | undefined
}

/** The sections that the head of every page links; further ones depend on the caller. */
const SECTIONS = [
  ['/repositories', 'Repositories'],
  ['/packages', 'Packages'],
  ['/deployments', 'Deployments'],
  ['/hosts', 'Hosts'],
] as const

/** A whole page: head, navigation, content and foot. */
export function Layout({ frame, children }: { frame: Frame; children: ComponentChildren }) {
  const { title, registry, assets, json } = frame
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>{`${title} · ${registry}`}</title>
        <link rel="stylesheet" href={assets.style.path} integrity={assets.style.integrity} />
        <link rel="icon" href="data:," />
        {json === undefined ? null : <link rel="alternate" type="application/json" href={json} />}
        <script type="module" src={assets.script.path} integrity={assets.script.integrity} />
      </head>
      <body>
        <a class="skip" href="#content">
          Skip to the content
        </a>
        <Head frame={frame} />
        <main id="content" tabindex={-1}>
          {children}
        </main>
        <footer>
          <p>
            Rookery, an OCI registry for unikernels.
            {json === undefined ? null : (
              <>
                {' '}
                <a href={json}>This page as JSON</a>
              </>
            )}
          </p>
        </footer>
      </body>
    </html>
  )
}

function Head({ frame: { registry, path, caller, search } }: { frame: Frame }) {
  return (
    <header class="top">
      <a class="name" href="/">
        {registry}
      </a>
      <nav aria-label="Sections">
        <ul>
          {sectionsFor(caller).map(([href, name]) => (
            <li key={href}>
              <a href={href} aria-current={isWithin(path, href) ? 'page' : undefined}>
                {name}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      {/* biome-ignore lint/a11y/useSemanticElements: html-validate and lynx know the role, and not every browser the element */}
      <form role="search" action="/search" method="get">
        <label class="hidden" for="q">
          Search
        </label>
        <input
          id="q"
          name="q"
          type="search"
          value={search ?? ''}
          title="A name, a digest, or a package"
          maxlength={256}
        />
        <button type="submit">Search</button>
      </form>
      <Session path={path} caller={caller} />
    </header>
  )
}

/** Returns the sections that the caller may open. */
function sectionsFor(caller: FrameCaller | undefined): readonly (readonly [string, string])[] {
  return [
    ...SECTIONS,
    ...(caller?.mayHaveWebhooks ? [['/webhooks', 'Webhooks'] as const] : []),
    ...(caller === undefined ? [] : [['/credentials', 'Credentials'] as const]),
  ]
}

function Session({ path, caller }: { path: string; caller: FrameCaller | undefined }) {
  if (caller === undefined) {
    if (isWithin(path, '/login')) return null
    return (
      <a class="session" href={`/login?next=${encodeURIComponent(path)}`}>
        Log in
      </a>
    )
  }
  if (!caller.hasSession) return <span class="session">{caller.name}</span>
  return (
    <form class="session" action="/logout" method="post">
      <span>{caller.name}</span> <button type="submit">Log out</button>
    </form>
  )
}

function isWithin(url: string, section: string): boolean {
  const [path = ''] = url.split('?', 1)
  return path === section || path.startsWith(`${section}/`)
}
