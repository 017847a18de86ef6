import type {
  BuildRow,
  ImageOfBuild,
  JobBuildRow,
  ListedBuildRow,
} from '../../registry/builds/job-builds.ts'
import { baseName } from '../../unikernel/format.ts'

/** The platform of a build whose builder names none, as builder calls it. */
export const NO_PLATFORM = 'no-platform'

type Solo5 = Pick<ImageOfBuild, 'target' | 'abiVersion' | 'devices'>

/** Formats a build as the page of a build at builder-web does. */
export function buildJson(job: string, build: BuildRow, image: ImageOfBuild | undefined) {
  return {
    ...summaryOf(job, build),
    ...(image === undefined ? {} : { main_binary_size: image.kernelSize, ...solo5Json(image) }),
  }
}

/** Formats a side of a comparison. */
export function sideJson(job: string, build: BuildRow, size: number | null) {
  return { ...summaryOf(job, build), main_binary_size: size }
}

function summaryOf(job: string, build: BuildRow) {
  const { id, platform, startedAt, finishedAt, recordedAt, kernelDigest } = build
  const start = startedAt ?? finishedAt ?? recordedAt
  return {
    job,
    uuid: id,
    platform: platform ?? NO_PLATFORM,
    start_time: start.toISOString(),
    finish_time: (finishedAt ?? start).toISOString(),
    main_binary: kernelDigest !== null,
  }
}

/** Formats the Solo5 facts of a kernel as solo5-elftool does. A kernel of another kind has none. */
export function solo5Json({ target, abiVersion, devices }: Solo5) {
  if (abiVersion === null || devices === null) return {}
  return {
    solo5_manifest: { type: 'solo5.manifest', version: 1, devices: devices.map(deviceJson) },
    solo5_abi: { type: 'solo5.abi', target, version: abiVersion },
  }
}

/** `net:service` */
function deviceJson(device: string) {
  const colon = device.indexOf(':')
  const type = device.startsWith('net:') ? 'NET_BASIC' : 'BLOCK_BASIC'
  return { name: device.slice(colon + 1), type }
}

/** Formats a build in the list of a job. */
export function listedJson({
  id,
  repository,
  kernelDigest,
  kernelTitle,
  kernelSize,
}: ListedBuildRow) {
  return {
    uuid: id,
    main_binary:
      kernelDigest === null
        ? null
        : {
            filename: baseName(kernelTitle ?? repository),
            sha256: kernelDigest.replace(/^sha256:/, ''),
            size: kernelSize ?? 0,
          },
  }
}

/** Formats a build in the list of failed ones, which builder-web has as a page only. */
export function failedJson(job: string, build: JobBuildRow) {
  const { result, exitCode, signal, message } = build
  return { ...summaryOf(job, build), result, exit_code: exitCode, signal, message }
}
