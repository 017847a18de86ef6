import type { Command } from './command.ts'

/**
 * Commands that are read from their file when they are asked for: what only some of them need, such as the web server,
 * takes half a second to load.
 */
export type Family = {
  /** The first words that its commands begin with. */
  readonly names: readonly string[]
  load(): Promise<readonly Command[]>
}

/** All commands, in the order in which the usage lists them. */
export const FAMILIES: readonly Family[] = [
  { names: ['serve'], load: async () => [(await import('./server/serve.ts')).serveCommand] },
  { names: ['push'], load: async () => [(await import('./registry/push.ts')).pushCommand] },
  {
    names: ['inspect'],
    load: async () => [(await import('./registry/inspect.ts')).inspectCommand],
  },
  {
    names: ['images', 'kernel', 'inputs', 'packages'],
    load: async () => (await import('./registry/search.ts')).askingCommands,
  },
  {
    names: ['compare'],
    load: async () => [(await import('./registry/compare.ts')).compareCommand],
  },
  {
    names: ['sbom', 'provenance'],
    load: async () => (await import('./registry/documents.ts')).documentCommands,
  },
  { names: ['tag'], load: async () => (await import('./registry/tag.ts')).tagCommands },
  { names: ['events'], load: async () => [(await import('./registry/events.ts')).eventsCommand] },
  {
    names: ['credential'],
    load: async () => (await import('./server/credential.ts')).credentialCommands,
  },
  { names: ['token'], load: async () => (await import('./server/token.ts')).tokenCommands },
  {
    names: ['upload-url'],
    load: async () => [(await import('./server/upload-url.ts')).uploadUrlCommand],
  },
  {
    names: ['login-url'],
    load: async () => [(await import('./registry/login-url.ts')).loginUrlCommand],
  },
  { names: ['policy'], load: async () => (await import('./server/policy.ts')).policyCommands },
  { names: ['keys'], load: async () => (await import('./server/key.ts')).keysCommands },
  {
    names: ['repository'],
    load: async () => (await import('./server/repository.ts')).repositoryCommands,
  },
  { names: ['webhook'], load: async () => (await import('./webhook/webhook.ts')).webhookCommands },
  { names: ['audit'], load: async () => [(await import('./server/audit.ts')).auditCommand] },
  { names: ['gc'], load: async () => [(await import('./server/gc.ts')).gc] },
  { names: ['scrub'], load: async () => [(await import('./server/scrub.ts')).scrubCommand] },
  { names: ['backup'], load: async () => [(await import('./server/backup.ts')).backup] },
  { names: ['restore'], load: async () => [(await import('./server/restore.ts')).restore] },
  {
    names: ['storage'],
    load: async () => [(await import('./server/storage-copy.ts')).storageCopy],
  },
]

/** The family whose commands begin with this word. */
export function familyOf(word: string | undefined): Family | undefined {
  return FAMILIES.find(({ names }) => word !== undefined && names.includes(word))
}

/** Every command, for who asks what there is. */
export async function loadAll(): Promise<readonly Command[]> {
  return (await Promise.all(FAMILIES.map(({ load }) => load()))).flat()
}
