import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

const POSTGRES = 'test/support/postgres.global.ts'
const S3 = 'test/support/s3.global.ts'
/** Time for a condition to become true: a busy machine takes longer. */
const POLL = { expect: { poll: { timeout: 10_000, interval: 20 } } }
const LIMITS = { testTimeout: 60_000, hookTimeout: 60_000, ...POLL }
const CLIENTS = {
  include: ['test/clients/**/*.test.ts'],
  testTimeout: 300_000,
  hookTimeout: 300_000,
  ...POLL,
}
/** Hosts fetch kernels from every store in the same way: Rookery never redirects them to it. */
const CLIENTS_S3 = { ...CLIENTS, exclude: ['test/clients/deploy*'], globalSetup: [S3] }
/**
 * The files of a worker share its modules: to load them anew for each file takes a quarter of the CPU time. A test leaves
 * nothing behind in a module or in the environment.
 */
const SHARED = { isolate: false } as const
const MAIN = {
  ...SHARED,
  include: ['test/**/*.test.ts'],
  exclude: ['test/browser/**', 'test/clients/**', 'test/s3/**', 'test/storage/s3-*'],
  globalSetup: [POSTGRES],
  ...LIMITS,
}
/**
 * Tests whose result does not depend on Node: parsers, rules of the source, computations, the
 * embedded Postgres, and rules that are decided in Postgres.
 */
const ALIKE = [
  'test/cli/{access,agreement,command-index,confirm,delete,inspect,push-refused,search,webhook}*',
  'test/{costs,embedded-postgres,house,images,oci,properties,unikernel}/**',
  'test/attacks/{commands-as-root,costly-questions,database-role,embedded-postgres}*',
  'test/attacks/{event-loop,existence-oracles,folders-of-others,login-throttle}*',
  'test/attacks/{question-routes,refused-leftovers,reused-names,revoked-*,shared-*,tag-bounds}*',
  'test/attacks/webhook-identity*',
  'test/auth/{authorization,master-key,refresh-tokens,refusal-messages,revocation,rotation}*',
  'test/{feed/limits,http/query-parameters,server/database-faults,webhooks/nothing-lost}*',
  'test/registry/{concurrent-pushes,part-*,repository-deletion}*',
  'test/process-faults/{clock-ahead,crash,embedded-full-disk,lost-folder,signals}*',
  'test/garbage/{dead-writers,lost-blobs,scrub,soak,store-mark,sweep}*',
  'test/webhooks/{circuit-breaker,delivery-claims}*',
]
/** Tests that run again on every store. */
const ON_EVERY_STORE = [
  'test/{conformance,garbage,images}/**/*.test.ts',
  'test/registry/concurrent-pushes.test.ts',
]

export default defineConfig({
  test: {
    // Tests wait for processes and disks more than they compute: one worker leaves two cores idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      { test: { name: 'main', ...MAIN } },
      { test: { name: 'other-node', ...MAIN, exclude: [...MAIN.exclude, ...ALIKE] } },
      {
        test: {
          name: 's3',
          ...SHARED,
          include: ['test/s3/**/*.test.ts', 'test/storage/s3-*.test.ts', ...ON_EVERY_STORE],
          globalSetup: [POSTGRES, S3],
          env: { TEST_STORE: 's3' },
          ...LIMITS,
        },
      },
      {
        test: {
          name: 's3-redirect',
          include: ['test/conformance/**/*.test.ts'],
          globalSetup: [POSTGRES, S3],
          env: { TEST_STORE: 's3-redirect' },
          ...LIMITS,
        },
      },
      { test: { name: 'clients', ...CLIENTS } },
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          globalSetup: [POSTGRES],
          ...LIMITS,
        },
      },
      {
        test: {
          name: 'clients-s3',
          ...CLIENTS_S3,
          env: { TEST_STORE: 's3' },
        },
      },
      {
        test: {
          name: 'clients-s3-redirect',
          ...CLIENTS_S3,
          env: { TEST_STORE: 's3-redirect' },
        },
      },
    ],
  },
})
