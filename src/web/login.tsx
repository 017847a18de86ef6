import { Heading } from './elements.tsx'

/** The form with which a person logs in. */
export function LoginPage({
  next,
  name = '',
  problem,
}: {
  /** The path to which the login returns. */
  next: string
  /** The name of an attempt that failed. */
  name?: string
  /** The reason why it failed. */
  problem?: string | undefined
}) {
  return (
    <>
      <Heading>Log in</Heading>
      {problem === undefined ? null : (
        <p class="error" role="alert">
          Not logged in: {problem}.
        </p>
      )}
      <form class="fields" action="/login" method="post">
        <input type="hidden" name="next" value={next} />
        <label>
          Name
          <input
            name="name"
            type="text"
            value={name}
            autocomplete="username"
            autocapitalize="none"
            spellcheck={false}
            aria-describedby="name-hint"
          />
        </label>
        <p class="faint" id="name-hint">
          The name of a credential, or <code>admin</code>. With a token, leave it empty.
        </p>
        <label>
          Password, secret or token
          <input name="secret" type="password" autocomplete="current-password" required />
        </label>
        <div>
          <button type="submit">Log in</button>
        </div>
      </form>
      <p class="faint">
        The login is for these pages and this browser. It ends after 12 hours without use, after 7
        days, or with the credential or token.
      </p>
    </>
  )
}

/** The page in place of the form, when others could read the password on its way. */
export function InsecureLoginPage({ origin, port }: { origin: string; port: string }) {
  return (
    <>
      <Heading>Log in</Heading>
      <p class="error">
        No login over plain http: others on the network could read the password, and take over the
        login.
      </p>
      <p>
        This page was opened at <code>{origin}</code>. Open the registry by its address with{' '}
        <code>https</code>. Whoever runs it sets up a proxy with TLS,{' '}
        <code>ROOKERY_PUBLIC_URL</code> and <code>ROOKERY_TRUSTED_PROXIES</code>.
      </p>
      <p>
        On the machine of the registry, <code>{`http://localhost:${port}/login`}</code> works
        without TLS, also through <code>{`ssh -L ${port}:localhost:${port} MACHINE`}</code>.
      </p>
    </>
  )
}
