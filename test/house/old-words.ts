import type { Source } from './architecture.ts'
import { withoutExpressions } from './prose.ts'

/**
 * A word that the house no longer uses, the word of the field, and the places where the old one is
 * right.
 */
export type OldWord = {
  readonly word: RegExp
  readonly say: string
  readonly except?: readonly Exception[]
}

/** Files, a phrase around the word, or both. */
type Exception = {
  readonly files?: RegExp
  readonly phrase?: RegExp
  readonly because: string
}

/** Words of names: `isTold` is compared as `is told`. */
export const OLD_WORDS: readonly OldWord[] = [
  {
    word: /\bdispatch(?:er|ers|es|ed|ing)?\b/,
    say: 'sequencer; send',
    except: [
      {
        files: /^src\/(?:client|outgoing)\/|^test\/(?:outgoing|workers)\/|^scripts\/bundle-client/,
        because: "undici's own word",
      },
      {
        phrase: /\b(?:repository|workflow|github|gitea) dispatch\b|\/dispatches\b/,
        because: "GitHub's and Gitea's word for the start of workflows",
      },
    ],
  },
  { word: /\btelling\b/, say: 'events, notify' },
  { word: /\btold\b/, say: 'notified' },
  { word: /\b(?:may )?(?:hears?|heard)\b/, say: 'receive, delivered up to' },
  {
    word: /\bendpoints?\b/,
    say: 'webhook',
    except: [
      {
        phrase:
          /\b(?:api|s3|tokens?|public|oci|spec|specification|store|aws) endpoints?\b|\bendpoints? of the spec\b/,
        because: 'an HTTP endpoint of a specification, or the address of an object store',
      },
      {
        files:
          /^(?:src\/(?:storage\/s3|config)|test\/(?:s3|support\/s3|storage|server)|scripts|docs\/(?:settings|operations)|bench\/(?:object-store|sdk-server|servers))/,
        because: 'the address of an object store',
      },
      {
        files: /^test\/events\/renamed-types/,
        because: 'the names before a migration',
      },
    ],
  },
  { word: /\bsubscri(?:ptions?|bes?|bers?|bed)\b/, say: 'webhook; follower of the feed' },
  { word: /\bbrakes?\b/, say: 'login throttle' },
  {
    word: /\bdrops?\b(?! (?:table|column|index|constraint|database|function|trigger|if)\b)/,
    say: 'one-time upload URL',
    except: [
      {
        phrase: /\bdatabase\.drop\(|\bdrop(?::| =>|\(\))|\bexternal\.drop\b/,
        because: "SQL's word for a database",
      },
    ],
  },
  { word: /\bdoorkeeper\b/, say: 'authorization dependencies' },
  { word: /\bvisits?\b/, say: 'request info' },
  { word: /\bdesks?\b/, say: 'webhook administration' },
  { word: /\bnudg(?:es?|ed|ing)\b/, say: 'poke, wake' },
  { word: /\bjudg(?:es?|ed|ing|ements?|ments?)\b/, say: 'validate' },
  {
    word: /\bforgotten\b/,
    say: 'pruned, expired',
    except: [{ files: /^test\/garbage\/backup/, because: 'the former name of a column' }],
  },
  { word: /\bstanding\b/, say: 'active' },
  { word: /\b(?:un)?tid(?:y|ies|ied|ying)\b/, say: 'clean up, needs cleanup' },
  { word: /\bingredients?\b/, say: 'components' },
  { word: /\bnarrow(?:ing|ed)\b/, say: 'downscope, restrict' },
  { word: /\bsurroundings?\b/, say: 'validation context' },
  { word: /\bspeakable\b/, say: 'redactPath' },
  { word: /\bwish(?:es)?\b/, say: 'request' },
  { word: /\bgo on\b/, say: 'continue' },
  { word: /\breindex(?:ing|ed|es)?\b/, say: 're-analysis' },
  { word: /\bunread\b/, say: 'not yet analyzed' },
  { word: /\bremovals\b/, say: 'deletion queue, deletions' },
  { word: /\bremoval holds?\b/, say: 'deletion pause' },
  { word: /\bdemand(?:s|ed|ing)?\b/, say: 'assert, require' },
  { word: /\bauthority parts\b/, say: 'AuthServices' },
  { word: /\bdeliverers?\b/, say: 'delivery worker' },
  { word: /\bdelivery slots\b/, say: 'concurrency limiter' },
  { word: /\bviewers?\b/, say: 'reader' },
  { word: /\bfirst credential\b/, say: 'admin password' },
  { word: /\bsaid hash\b/, say: 'declared kernel hash' },
  { word: /\bimage makers?\b/, say: 'ImageBuilder' },
  { word: /\bamended\b/, say: 'applyChange' },
  { word: /\bopen state\b/, say: 'openStores' },
  { word: /\bfind places\b/, say: 'redelivery range' },
  { word: /\brunning hashes\b/, say: 'incremental hashes' },
  { word: /\brepeating\b/, say: 'Loop' },
  { word: /\bpass blob\b/, say: 'sendBlob' },
  { word: /\bevent facts\b/, say: 'image diff' },
  { word: /\boci error\b/, say: 'RegistryError' },
  { word: /\bmark read\b/, say: 'markAnalyzed' },
  { word: /\bwaiters?\b/, say: 'connection limit' },
  { word: /\btogether\b(?= ?\()/, say: 'forEachConcurrent' },
  { word: /\bpace\b/, say: 'throttle' },
  {
    word: /\btries\b/,
    say: 'attempts',
    except: [
      { files: /^test\/garbage\/backup/, because: 'the former name of a column' },
      { files: /^src\/outgoing\/host-lookups/, because: "an option of Node's resolver" },
      {
        phrase: /\b(?:it|and|that|which|then|client|process|worker|retry|never|always|who) tries\b/,
        because: 'the verb',
      },
    ],
  },
  {
    word: /\b(?:const|let|readonly|#) ?known\b|\bknown (?:facts|files|manifests|layers|blobs)\b\(?/,
    say: 'cached, stored',
  },
]

/** Splits names at capitals, `_` and `-`: `isTold`, `IS_TOLD` and `is-told` become `is told`. */
export function asWords(text: string): string {
  return text
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1 $2')
    .replace(/[_-]/g, ' ')
    .toLowerCase()
}

const LINES = new WeakMap<Source, readonly string[]>()

/**
 * Returns the lines of a file as words. They are cached, because each exception is tried on all
 * files.
 */
function linesOf(source: Source): readonly string[] {
  const { path, text } = source
  const cached = LINES.get(source)
  if (cached !== undefined) return cached
  const code = /\.(?:ts|mjs)$/.test(path) ? withoutExpressions(text) : text
  const lines = asWords(code).split('\n')
  LINES.set(source, lines)
  return lines
}

/** Lists lines with an old word, and its replacement. */
export function oldWords(
  sources: readonly Source[],
  table: readonly OldWord[] = OLD_WORDS,
): string[] {
  return sources.flatMap((source) =>
    linesOf(source).flatMap((words, index) =>
      table
        .filter((old) => isUsed(old, source.path, words))
        .map(({ word, say }) => {
          const found = word.exec(words)?.[0] ?? ''
          return `${source.path}:${index + 1} "${found}": say ${say}`
        }),
    ),
  )
}

/** Lists exceptions without which no line would be refused. */
export function unusedExceptions(sources: readonly Source[]): string[] {
  return OLD_WORDS.flatMap((old) =>
    (old.except ?? []).flatMap((exception) => {
      const others = (old.except ?? []).filter((other) => other !== exception)
      const without = oldWords(sources, [{ ...old, except: others }])
      const used = without.length > oldWords(sources, [old]).length
      return used ? [] : [`${old.word} because ${exception.because}`]
    }),
  )
}

function isUsed({ word, except = [] }: OldWord, path: string, words: string): boolean {
  let left = words
  for (const { files, phrase } of except) {
    if (files?.test(path)) return false
    if (phrase !== undefined) left = left.replace(new RegExp(phrase, 'g'), ' ')
  }
  return word.test(left)
}
