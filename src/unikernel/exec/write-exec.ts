import { Buffer } from 'node:buffer'
import { derElement, derInteger, explicitTag, TAGS } from './der.ts'
import { generalizedTime } from './der-time.ts'

/** A build that succeeded, of which builder has sent no exec. */
export type ExecDescription = {
  readonly job: string
  readonly platform: string
  /** A UUID. */
  readonly uuid: string
  readonly script: string
  readonly startedAt: Date
  readonly finishedAt: Date
}

const text = (value: string) => derElement(TAGS.utf8String, Buffer.from(value))
const time = (date: Date) =>
  derElement(TAGS.generalizedTime, Buffer.from(generalizedTime(date), 'latin1'))

/** Writes the elements of an exec before its outputs, with an empty console and the result 0. */
export function writeHead({
  job,
  platform,
  uuid,
  script,
  startedAt,
  finishedAt,
}: ExecDescription): Buffer {
  return Buffer.concat([
    derElement(TAGS.sequence, text(job), text(script), derElement(TAGS.sequence), text(platform)),
    derElement(TAGS.utf8String, Buffer.from(uuid.replaceAll('-', ''), 'hex')),
    derElement(TAGS.sequence),
    derElement(TAGS.sequence, time(startedAt), time(finishedAt)),
    derElement(explicitTag(0), derInteger(0)),
  ])
}
