/**
 * The rules of the decoders of albatross-client and mollymawk, from their sources: a value that one of them refuses throws
 * here.
 */

type Json = Record<string, unknown>

function fail(what: string, value: unknown): never {
  throw new Error(`${what}: ${JSON.stringify(value)}`)
}
function text(value: unknown, what: string): string {
  return typeof value === 'string' ? value : fail(`${what} is no string`, value)
}
function list<T>(value: unknown, item: (one: unknown) => T, what: string): T[] {
  return Array.isArray(value) ? value.map(item) : fail(`${what} is no list`, value)
}
function object(value: unknown, what: string): Json {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isObject ? (value as Json) : fail(`${what} is no object`, value)
}

/** Albatross splits the Location at slashes: job and build, and perhaps a slash at the end. */
export function jobAndBuild(location: string | null): [job: string, build: string] {
  const [empty, job, name, build, uuid, ...rest] = (location ?? '').split('/')
  const isEnd = rest.length === 0 || (rest.length === 1 && rest[0] === '')
  if (empty !== '' || job !== 'job' || build !== 'build' || !isEnd || !name || !uuid) {
    fail("expected '/job/<jobname>/build/<uuid>'", location)
  }
  return [name, uuid]
}

// Ptime.of_rfc3339
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/

export type MollymawkBuild = { readonly job: string; readonly uuid: string; readonly size?: number }

/** Mollymawk's `build_of_json`. */
export function buildOfJson(json: unknown): MollymawkBuild {
  const build = object(json, 'the build')
  for (const time of ['start_time', 'finish_time']) {
    if (!RFC_3339.test(text(build[time], time))) fail(`${time} is no time`, build[time])
  }
  text(build.platform, 'platform')
  if (typeof build.main_binary !== 'boolean') fail('main_binary', build.main_binary)
  const { main_binary_size: size } = build
  if (size !== undefined && size !== null && !Number.isInteger(size)) fail('size', size)
  return { job: text(build.job, 'job'), uuid: text(build.uuid, 'uuid'), size: Number(size) }
}

const packageOfJson = (json: unknown) => {
  const { name, version } = object(json, 'a package')
  return { name: text(name, 'name'), version: text(version, 'version') }
}
const versionOfJson = (json: unknown) => {
  const { name, version_left, version_right } = object(json, 'a change')
  text(version_left, 'version_left')
  text(version_right, 'version_right')
  return text(name, 'name')
}
const diffOfJson = (json: unknown) => {
  const diff = object(json, 'a difference')
  return {
    left: list(diff.left_packages, packageOfJson, 'left_packages'),
    right: list(diff.right_packages, packageOfJson, 'right_packages'),
    changed: list(diff.different_versions, versionOfJson, 'different_versions'),
  }
}
const packageDiffOfJson = (json: unknown) => {
  const { package_version, effectively_equal, diff } = object(json, 'opam_diff')
  if (typeof effectively_equal !== 'boolean') fail('effectively_equal', effectively_equal)
  text(diff, 'diff')
  return text(package_version, 'package_version')
}
const sourceOfJson = (json: unknown) => {
  const { name, value } = object(json, 'a source')
  return { name: text(name, 'name'), value: text(value, 'value') }
}

/** Mollymawk's `compare_of_json`: `duniverse_diff` must be an object. */
export function compareOfJson(json: unknown) {
  const compared = object(json, 'the comparison')
  const opam = object(compared.opam_diff, 'opam_diff')
  const duniverse = object(opam.duniverse_diff, 'duniverse_diff')
  return {
    left: buildOfJson(compared.left),
    right: buildOfJson(compared.right),
    env: diffOfJson(compared.env_diff),
    packages: diffOfJson(compared.package_diff),
    opam: list(opam.opam_diff, packageDiffOfJson, 'opam_diff'),
    versions: list(opam.version_diff, versionOfJson, 'version_diff'),
    onlyLeft: list(opam.only_in_left, packageOfJson, 'only_in_left'),
    onlyRight: list(opam.only_in_right, packageOfJson, 'only_in_right'),
    sources: {
      left: list(duniverse.left, sourceOfJson, 'left'),
      right: list(duniverse.right, sourceOfJson, 'right'),
      changed: list(
        duniverse.detailed_diff,
        (one) => text(object(one, 'a source').name, 'name'),
        'detailed_diff',
      ),
    },
  }
}

const deviceOfJson = (json: unknown) => {
  const { name, type } = object(json, 'a device')
  if (type !== 'NET_BASIC' && type !== 'BLOCK_BASIC') fail('type', type)
  return `${type} ${text(name, 'name')}`
}

/** Mollymawk's `jobs_of_json`: one job without a synopsis refuses all; those that are not for hvt or spt are left out. */
export function jobsOfJson(json: unknown) {
  const jobs = list(object(json, 'the list').jobs, (one) => object(one, 'a job'), 'jobs')
  return jobs.flatMap((job) => {
    const name = text(job.name, 'name')
    const synopsis = text(job.synopsis, 'synopsis')
    if (job.latest === undefined) return []
    const latest = object(job.latest, 'latest')
    const { target, version } = object(latest.solo5_abi, 'solo5_abi')
    if ((target !== 'hvt' && target !== 'spt') || !Number.isInteger(version)) return []
    const manifest = object(latest.solo5_manifest, 'solo5_manifest')
    const devices = list(manifest.devices, deviceOfJson, 'devices')
    return [{ name, synopsis, uuid: text(latest.uuid, 'uuid'), target, version, devices }]
  })
}
