import type { CommandGroup } from './command-entry.ts'

/**
 * All commands in the order of `rookery --help`. Help reads this table alone, and a command's module is loaded when
 * the command runs: all of them take 0.9 s. `scripts/bundle-client.mjs` makes the table of the client from it.
 */
export const COMMAND_GROUPS: readonly CommandGroup[] = [
  {
    title: 'Run',
    members: [
      {
        word: 'serve',
        summary: 'Start the registry',
        load: async () => (await import('./server/serve.ts')).serveCommand,
      },
      {
        word: 'healthcheck',
        summary: 'Ask whether the server of this machine or container is ready',
        load: async () => (await import('./server/healthcheck.ts')).healthcheckCommand,
      },
    ],
  },
  {
    title: 'Build and push',
    members: [
      {
        word: 'push',
        summary: 'Push an orb build or a kernel as an image to any registry',
        load: async () => (await import('./registry/push.ts')).pushCommand,
      },
      {
        word: 'inspect',
        summary: 'Show kernel, devices and provenance of a file or image',
        load: async () => (await import('./registry/inspect.ts')).inspectCommand,
      },
      {
        word: 'upload-url',
        summary: 'Create one-time URLs for builders that only have curl',
        commands: [
          {
            word: 'create',
            summary: 'Create a URL that accepts one file for a tag, once, by curl -T',
            load: async () => (await import('./server/upload-url.ts')).createCommand,
          },
        ],
      },
    ],
  },
  {
    title: 'Look and ask',
    members: [
      {
        word: 'image',
        summary: 'List, explain and delete the images of a repository',
        commands: [
          {
            word: 'list',
            summary: 'List the unikernel images of a repository, newest first',
            load: async () => (await import('./registry/image.ts')).listCommand,
          },
          {
            word: 'why',
            summary: 'Show which dependencies brought a package into an image',
            load: async () => (await import('./registry/why.ts')).whyCommand,
          },
          {
            word: 'delete',
            summary: 'Delete an image with all of its tags, from any OCI registry',
            load: async () => (await import('./registry/image.ts')).deleteCommand,
          },
        ],
      },
      {
        word: 'build',
        summary: 'List the builds of a repository, and report failed ones',
        commands: [
          {
            word: 'list',
            summary: 'List builds with their result, builder, platform and kernel',
            load: async () => (await import('./registry/build.ts')).listCommand,
          },
          {
            word: 'show',
            summary: 'Show a build: result, times, inputs and image',
            load: async () => (await import('./registry/build.ts')).showCommand,
          },
          {
            word: 'log',
            summary: 'Print the console or the script of a build',
            load: async () => (await import('./registry/build.ts')).logCommand,
          },
          {
            word: 'report',
            summary: 'Report a build that failed, with its console, script and inputs',
            load: async () => (await import('./registry/build.ts')).reportCommand,
          },
        ],
      },
      {
        word: 'search',
        summary: 'Search images by target, kernel, inputs, package or source',
        commands: [
          {
            word: 'images',
            summary: 'List the unikernels of all repositories, by target, ABI or device',
            load: async () => (await import('./registry/search.ts')).imagesCommand,
          },
          {
            word: 'kernel',
            summary: 'Find the images and tags that contain a kernel',
            load: async () => (await import('./registry/search.ts')).kernelCommand,
          },
          {
            word: 'inputs',
            summary: 'Find the images built from an input id, and check that it is reproducible',
            load: async () => (await import('./registry/search.ts')).inputsCommand,
          },
          {
            word: 'packages',
            summary: 'Find the images and tags that contain a package, by version',
            load: async () => (await import('./registry/search.ts')).packagesCommand,
          },
          {
            word: 'sources',
            summary: 'Find the images built from a source repository, or from an archive',
            load: async () => (await import('./registry/search-sources.ts')).sourcesCommand,
          },
        ],
      },
      {
        word: 'compare',
        summary: 'Compare two images: kernel, devices, packages, sources, host',
        load: async () => (await import('./registry/compare.ts')).compareCommand,
      },
      {
        word: 'sbom',
        summary: "Print an image's bill of materials (CycloneDX or SPDX)",
        load: async () => (await import('./registry/documents.ts')).sbomCommand,
      },
      {
        word: 'provenance',
        summary: "Print an image's build provenance (SLSA v1)",
        load: async () => (await import('./registry/documents.ts')).provenanceCommand,
      },
    ],
  },
  {
    title: 'Tags, hosts and events',
    members: [
      {
        word: 'tag',
        summary: 'Show the history of a tag, roll it back, and delete it',
        commands: [
          {
            word: 'history',
            summary: 'List the images that a tag pointed to, newest first, even if it is deleted',
            load: async () => (await import('./registry/tag.ts')).historyCommand,
          },
          {
            word: 'rollback',
            summary: 'Move a tag back to its previous image, or to a digest from its history',
            load: async () => (await import('./registry/tag.ts')).rollbackCommand,
          },
          {
            word: 'delete',
            summary: 'Delete a tag and keep its image, in any OCI registry',
            load: async () => (await import('./registry/tag.ts')).deleteCommand,
          },
        ],
      },
      {
        word: 'deploy',
        summary: 'Watch the hosts that follow a tag; pause, cancel and retry',
        commands: [
          {
            word: 'watch',
            summary: 'Wait until the hosts run an image, and show each of them',
            load: async () => (await import('./registry/deploy-watch.ts')).watchCommand,
          },
          {
            word: 'status',
            summary: 'Show the newest deployment of a tag, host by host',
            load: async () => (await import('./registry/deploy.ts')).statusCommand,
          },
          {
            word: 'list',
            summary: 'List the deployments of a registry, repository or tag, newest first',
            load: async () => (await import('./registry/deploy.ts')).listCommand,
          },
          {
            word: 'pause',
            summary: 'Update no more hosts until the deployment is resumed',
            load: async () => (await import('./registry/deploy.ts')).pauseCommand,
          },
          {
            word: 'resume',
            summary: 'Continue a paused deployment',
            load: async () => (await import('./registry/deploy.ts')).resumeCommand,
          },
          {
            word: 'cancel',
            summary: 'End a deployment: hosts that did not begin keep what they run',
            load: async () => (await import('./registry/deploy.ts')).cancelCommand,
          },
          {
            word: 'retry',
            summary: 'Deploy the image again to the hosts where it failed',
            load: async () => (await import('./registry/deploy.ts')).retryCommand,
          },
        ],
      },
      {
        word: 'rollout',
        summary: 'Set how hosts are updated: one first, then in batches',
        commands: [
          {
            word: 'list',
            summary: 'List the rollouts of a registry by name',
            load: async () => (await import('./registry/rollout.ts')).listCommand,
          },
          {
            word: 'show',
            summary: 'Show the rules of a rollout',
            load: async () => (await import('./registry/rollout.ts')).showCommand,
          },
          {
            word: 'set',
            summary: 'Create or replace a rollout: canary, batches, deadline, failures',
            load: async () => (await import('./registry/rollout.ts')).setCommand,
          },
          {
            word: 'delete',
            summary: 'Delete a rollout: its tags reach all hosts at once again',
            load: async () => (await import('./registry/rollout.ts')).deleteCommand,
          },
        ],
      },
      {
        word: 'host',
        summary: 'Enrol and manage machines that run unikernels',
        commands: [
          {
            word: 'create',
            summary: 'Make a code with which a host enrols, and print the command for it',
            load: async () => (await import('./registry/host-enrolment.ts')).createCommand,
          },
          {
            word: 'list',
            summary: 'List hosts with their presence, labels and repositories',
            load: async () => (await import('./registry/host.ts')).listCommand,
          },
          {
            word: 'show',
            summary: 'Show the key, rights and units of a host',
            load: async () => (await import('./registry/host.ts')).showCommand,
          },
          {
            word: 'units',
            summary: 'List what a host runs',
            load: async () => (await import('./registry/host.ts')).unitsCommand,
          },
          {
            word: 'approve',
            summary: 'Approve a host that enrolled without a code, by its fingerprint',
            load: async () => (await import('./registry/host-enrolment.ts')).approveCommand,
          },
          {
            word: 'label',
            summary: 'Set and remove labels of a host',
            load: async () => (await import('./registry/host-change.ts')).labelCommand,
          },
          {
            word: 'update',
            summary: 'Change which repositories a host may follow, and from where',
            load: async () => (await import('./registry/host-change.ts')).updateCommand,
          },
          {
            word: 'revoke',
            summary: 'Revoke a host with its key and all its tokens',
            load: async () => (await import('./registry/host-change.ts')).revokeCommand,
          },
        ],
      },
      {
        word: 'webhook',
        summary: 'Create and manage webhooks, and redeliver events',
        commands: [
          {
            word: 'create',
            summary: 'Create a webhook and print its signing secret once',
            load: async () => (await import('./webhook/create.ts')).createCommand,
          },
          {
            word: 'list',
            summary: 'List webhooks with their state, health and filter',
            load: async () => (await import('./webhook/webhook.ts')).listCommand,
          },
          {
            word: 'show',
            summary: "Show a webhook's URL, filter, health and state",
            load: async () => (await import('./webhook/webhook.ts')).showCommand,
          },
          {
            word: 'update',
            summary: 'Change, pause or resume a webhook',
            load: async () => (await import('./webhook/update.ts')).updateCommand,
          },
          {
            word: 'delete',
            summary: 'Delete a webhook and its pending deliveries',
            load: async () => (await import('./webhook/webhook.ts')).deleteCommand,
          },
          {
            word: 'test',
            summary: 'Send webhook.ping to a webhook and show its answer',
            load: async () => (await import('./webhook/deliveries.ts')).testCommand,
          },
          {
            word: 'deliveries',
            summary: 'List the deliveries of a webhook, or all attempts of one event',
            load: async () => (await import('./webhook/deliveries.ts')).deliveriesCommand,
          },
          {
            word: 'redeliver',
            summary: 'Send one event again, or all events of a period',
            load: async () => (await import('./webhook/deliveries.ts')).redeliverCommand,
          },
          {
            word: 'rotate-secret',
            summary: 'Give a webhook a new signing secret and print it once',
            load: async () => (await import('./webhook/webhook.ts')).rotateSecretCommand,
          },
        ],
      },
      {
        word: 'events',
        summary: 'Show or follow the events of a registry',
        load: async () => (await import('./registry/events.ts')).eventsCommand,
      },
    ],
  },
  {
    title: 'Access',
    members: [
      {
        word: 'credential',
        summary: 'Create, list and revoke credentials of builders and hosts',
        commands: [
          {
            word: 'create',
            summary: 'Create a credential and print its password once',
            load: async () => (await import('./server/credential.ts')).createCommand,
          },
          {
            word: 'list',
            summary: 'List credentials with their rights, expiry and last use',
            load: async () => (await import('./server/credential.ts')).listCommand,
          },
          {
            word: 'rotate',
            summary: 'Give a credential a new password; the old one works for a while',
            load: async () => (await import('./server/credential.ts')).rotateCommand,
          },
          {
            word: 'revoke',
            summary: 'Revoke a credential and all tokens issued from it',
            load: async () => (await import('./server/credential.ts')).revokeCommand,
          },
        ],
      },
      {
        word: 'token',
        summary: 'Mint and revoke short-lived tokens',
        commands: [
          {
            word: 'mint',
            summary: 'Print a short-lived token',
            load: async () => (await import('./server/token.ts')).mintCommand,
          },
          {
            word: 'revoke',
            summary: 'Revoke one token on every replica within seconds',
            load: async () => (await import('./server/token.ts')).revokeCommand,
          },
        ],
      },
      {
        word: 'session',
        summary: 'List and end the logins of browsers',
        commands: [
          {
            word: 'list',
            summary: 'List the browsers that are logged in as you',
            load: async () => (await import('./registry/session.ts')).listCommand,
          },
          {
            word: 'revoke',
            summary: 'End one of these logins, or all',
            load: async () => (await import('./registry/session.ts')).revokeCommand,
          },
        ],
      },
      {
        word: 'login-url',
        summary: 'Print curl, oras and docker logins for a URL with a password',
        load: async () => (await import('./registry/login-url.ts')).loginUrlCommand,
      },
      {
        word: 'policy',
        summary: 'Trust identity tokens of CI systems (OIDC)',
        commands: [
          {
            word: 'create',
            summary: 'Create a trust policy: exchange identity tokens of an issuer for tokens',
            load: async () => (await import('./server/policy.ts')).createCommand,
          },
          {
            word: 'list',
            summary: 'List trust policies with their issuer, conditions and rights',
            load: async () => (await import('./server/policy.ts')).listCommand,
          },
          {
            word: 'remove',
            summary: 'Remove a trust policy and revoke all tokens issued by it',
            load: async () => (await import('./server/policy.ts')).removeCommand,
          },
          {
            word: 'test',
            summary: 'Show which trust policy an identity token matches, and which checks fail',
            load: async () => (await import('./server/policy.ts')).testCommand,
          },
        ],
      },
      {
        word: 'key',
        summary: 'List and rotate the keys that sign tokens',
        commands: [
          {
            word: 'list',
            summary: 'List signing keys with the times from and until which they are valid',
            load: async () => (await import('./server/key.ts')).listCommand,
          },
          {
            word: 'rotate',
            summary: 'Add a signing key that replaces the current one',
            load: async () => (await import('./server/key.ts')).rotateCommand,
          },
        ],
      },
      {
        word: 'repository',
        summary: 'Set visibility and rules of repositories, or delete them',
        commands: [
          {
            word: 'show',
            summary: 'Show the visibility, immutable tags and provenance rule of a repository',
            load: async () => (await import('./server/repository.ts')).showCommand,
          },
          {
            word: 'set',
            summary: 'Set the visibility, immutable tags or provenance rule of a repository',
            load: async () => (await import('./server/repository.ts')).setCommand,
          },
          {
            word: 'list',
            summary: 'List all repositories, private ones included, with their settings',
            load: async () => (await import('./server/repository.ts')).listCommand,
          },
          {
            word: 'delete',
            summary: 'Delete a repository with its tags, images and settings',
            load: async () => (await import('./server/repository.ts')).deleteCommand,
          },
        ],
      },
      {
        word: 'audit',
        summary: 'Show allowed and refused changes, newest first',
        load: async () => (await import('./server/audit.ts')).auditCommand,
      },
    ],
  },
  {
    title: 'Operate',
    members: [
      {
        word: 'gc',
        summary: 'Delete unreferenced blobs older than the grace period',
        load: async () => (await import('./server/gc.ts')).gcCommand,
      },
      {
        word: 'opam',
        summary: 'Import an opam repository: it names vendored packages',
        commands: [
          {
            word: 'show',
            summary: 'Show what the index of opam packages has, and where it is from',
            load: async () => (await import('./server/opam.ts')).showCommand,
          },
          {
            word: 'import',
            summary: 'Add the packages of a checkout or an archive to the index',
            load: async () => (await import('./server/opam.ts')).importCommand,
          },
        ],
      },
      {
        word: 'scrub',
        summary: 'Verify every blob; find missing, corrupt and orphaned blobs',
        load: async () => (await import('./server/scrub.ts')).scrubCommand,
      },
      {
        word: 'backup',
        summary: 'Copy database and blobs to a folder, without downtime',
        load: async () => (await import('./server/backup.ts')).backupCommand,
      },
      {
        word: 'restore',
        summary: 'Restore a backup into an empty registry',
        load: async () => (await import('./server/restore.ts')).restoreCommand,
      },
      {
        word: 'upgrade-database',
        summary: 'Upgrade the data of the embedded Postgres',
        load: async () => (await import('./server/upgrade-database.ts')).upgradeDatabaseCommand,
      },
      {
        word: 'storage',
        summary: 'Move blobs between the filesystem and S3',
        commands: [
          {
            word: 'copy',
            summary: 'Copy all blobs from one store to the other and verify them',
            load: async () => (await import('./server/storage-copy.ts')).storageCopyCommand,
          },
        ],
      },
      {
        word: 'completion',
        summary: 'Print a completion script for bash, zsh or fish',
        load: async () => (await import('./completion.ts')).completionCommand(COMMAND_GROUPS),
      },
    ],
  },
]

/** First words that this program does not have: in the client of one file, those of commands that need the server. */
export const ABSENT_WORDS: readonly string[] = []
