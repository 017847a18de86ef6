import { ECOSYSTEMS, type Ecosystem } from '../unikernel/versions/orders.ts'
import { Heading, Section } from './elements.tsx'
import { packagePath, packageVersionsPath } from './paths.ts'

/** The name of each ecosystem, as pages show it. */
export const ECOSYSTEM_NAMES: Readonly<Record<Ecosystem, string>> = {
  opam: 'opam (OCaml)',
  deb: 'deb (Debian, Ubuntu)',
  apk: 'apk (Alpine)',
  freebsd: 'FreeBSD',
}

/** The field of a version constraint. */
export function VersionField({ version }: { version: string | undefined }) {
  return (
    <label>
      Versions (empty: all)
      <input type="text" name="version" value={version ?? ''} maxlength={1000} />
    </label>
  )
}

/** The page that asks for a package. */
export function PackagesPage() {
  return (
    <>
      <Heading note="Find the images that contain a package, and where they run.">Packages</Heading>
      <form class="fields" action="/packages" method="get">
        <label>
          Ecosystem
          <select name="ecosystem">
            {ECOSYSTEMS.map((one) => (
              <option key={one} value={one}>
                {ECOSYSTEM_NAMES[one]}
              </option>
            ))}
          </select>
        </label>
        <label>
          Name
          <input type="text" name="name" required maxlength={255} autocomplete="off" />
        </label>
        <VersionField version={undefined} />
        <div>
          <button type="submit">Find</button>
        </div>
      </form>
      <Section id="ecosystems" title="Ecosystems">
        <p>
          opam packages are those of the unikernel itself. The others were installed on the machine
          that built it.
        </p>
      </Section>
      <Section id="versions" title="Versions">
        <p>
          A constraint is a relation and a version, such as <code>&lt; 2.1</code>. The relations are{' '}
          <code>=</code> <code>!=</code> <code>&lt;</code> <code>&lt;=</code> <code>&gt;</code>{' '}
          <code>&gt;=</code>; join them with <code>&amp;</code> and <code>|</code>, negate with{' '}
          <code>!</code>, and group with parentheses. Each ecosystem has its own order of versions.
          A package whose version is unknown is always listed.
        </p>
        <ul>
          <li>
            <a href={packageVersionsPath('opam', 'mirage-crypto', '< 2.1')}>
              mirage-crypto before 2.1
            </a>
          </li>
          <li>
            <a href={packageVersionsPath('opam', 'tls', '>= 1 & < 2')}>tls from 1 to 2</a>
          </li>
          <li>
            <a href={packagePath('deb', 'gcc')}>gcc of Debian, any version</a>
          </li>
        </ul>
      </Section>
    </>
  )
}
