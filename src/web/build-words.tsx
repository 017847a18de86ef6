import { type Mood, State } from './elements.tsx'

/** How a build ended. */
export type BuildResultWord = 'succeeded' | 'failed' | 'signalled' | 'error'

const MOODS: Readonly<Record<BuildResultWord, Mood>> = {
  succeeded: 'good',
  failed: 'bad',
  signalled: 'bad',
  error: 'bad',
}

/** The end of a build as a sign and a word. */
export function BuildResultState({ result }: { result: BuildResultWord }) {
  return <State mood={MOODS[result]}>{result}</State>
}
