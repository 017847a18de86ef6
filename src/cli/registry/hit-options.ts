import { flag, type Values, value } from '../command.ts'

/** The options that filter images by their tags. */
export const TAG_OPTIONS = {
  tagged: flag('only images with a tag'),
  tag: value('TAG|PATTERN', "only images with this tag, such as live or 'v*'"),
}

/** The options that filter the hits of a search. */
export const HIT_OPTIONS = {
  ...TAG_OPTIONS,
  repository: value('NAME|PATTERN', "only images of this repository, such as 'builds/**'"),
}

/** Returns the parameters of the filter. */
export function hitQuery({ tagged, tag, repository }: Values<typeof HIT_OPTIONS>) {
  return { tagged: tagged ? 'true' : undefined, tag, repository }
}
