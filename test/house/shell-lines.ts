import type { Source } from './architecture.ts'

/** A call of curl in a document: up to the end of its command. Mentions of an option have no address. */
const CURL = /\bcurl (?=[-"'$h])(?:[^|;`\n]|\\\n)*/g
const ADDRESS = /https?:|\$/
const FAILS_SILENTLY = / -[a-zA-Z]*f[a-zA-Z]*(?= |$)/
const TO_A_FILE = / -[a-zA-Z]*[oO](?= |$)| --output /

/**
 * Finds calls of curl that do not show a refusal: curl exits with 0 without an option, and `-f` alone hides the reason.
 * A download to a file has `-f`, because an error must not become the content of the file.
 */
export function silentCurls(files: readonly Source[]): string[] {
  return files.flatMap(({ path, text }) =>
    [...text.replaceAll(/\\\n\s*/g, '').matchAll(CURL)]
      .map(([call]) => call.trim())
      .filter((call) => ADDRESS.test(call))
      .filter((call) =>
        TO_A_FILE.test(call)
          ? !FAILS_SILENTLY.test(call) && !call.includes(' --fail-with-body')
          : !call.includes(' --fail-with-body'),
      )
      .map((call) => `${path}: ${call}`),
  )
}

/** Finds advice to run npx: it asks a public registry for the name of a package that is not installed. */
export function adviceOfNpx(files: readonly Source[]): string[] {
  return files
    .filter(({ text }) => /\bnpx (?:--\S+ |-\w )*rookery\b/.test(text))
    .map(({ path }) => path)
}
