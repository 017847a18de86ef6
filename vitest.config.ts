import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

const POSTGRES = 'test/support/postgres.global.ts'
const S3 = 'test/support/s3.global.ts'
/** Time for a condition to become true: a busy machine takes longer. */
const POLL = { expect: { poll: { timeout: 30_000, interval: 20 } } }
const LIMITS = { testTimeout: 60_000, hookTimeout: 60_000, ...POLL }
const CLIENTS = {
  include: ['test/clients/**/*.test.ts'],
  testTimeout: 300_000,
  hookTimeout: 300_000,
  ...POLL,
}
/**
 * The files of a worker share its modules: to load them anew for each file takes a quarter of the CPU time. A test leaves
 * nothing behind in a module or in the environment.
 */
const SHARED = { isolate: false } as const
/** Tests that need other programs or servers than Node and Postgres. */
const OTHERS = ['test/browser/**', 'test/clients/**', 'test/s3/**', 'test/storage/s3-*']
/**
 * Names of tests that repeat, wait, kill processes or start many of them. `npm test` leaves them out, so that it takes some
 * four minutes on two cores.
 */
const SLOW = 'test/**/*.slow.test.ts'
const MAIN = { ...SHARED, globalSetup: [POSTGRES], ...LIMITS }
/** Tests that run again on every store. */
const ON_EVERY_STORE = [
  'test/{conformance,garbage,images}/**/*.test.ts',
  'test/registry/concurrent-pushes.slow.test.ts',
]
/** Questions about images, which the database answers on every store. */
const IMAGES_IN_DATABASE =
  'test/images/{digest-prefixes,hit-filters,package-facts,search,source-search}{.slow,}.test.ts'
/** Tests that `.ci/run` leaves out on the LTS of Node: they read the sources, which are the same. */
const NOT_ON_LTS = process.env.TEST_ON_LTS === undefined ? [] : ['test/house/**']

export default defineConfig({
  test: {
    // Tests wait for processes and disks: two workers leave half a core of two idle.
    maxWorkers: Math.max(3, availableParallelism() - 1),
    projects: [
      {
        test: {
          name: 'main',
          include: ['test/**/*.test.ts'],
          exclude: [...OTHERS, SLOW, ...NOT_ON_LTS],
          ...MAIN,
        },
      },
      { test: { name: 'slow', include: [SLOW], exclude: OTHERS, ...MAIN } },
      {
        test: {
          name: 's3',
          ...SHARED,
          include: ['test/s3/**/*.test.ts', 'test/storage/s3-*.test.ts', ...ON_EVERY_STORE],
          exclude: [IMAGES_IN_DATABASE],
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
          ...CLIENTS,
          // Hosts fetch kernels from every store in the same way: Rookery never redirects them to it.
          // Events reach receivers alike, and a proxy passes every answer on. Of the clients, containerd, crane, docker, oras and skopeo follow redirects
          // here: the others have the code of one of these.
          exclude: [
            'test/clients/{apptainer,buildx,caddy,crane,deploy,documents,image,nginx,page,podman,receivers,refusals,signatures,umoci}*',
          ],
          globalSetup: [S3],
          // Without redirects a client cannot see which store the registry has.
          env: { TEST_STORE: 's3-redirect' },
        },
      },
    ],
  },
})
