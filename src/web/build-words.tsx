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

/** Says whether a build succeeded, and whether other builds of the same inputs in its repository got the same kernel. */
export function BuildOutcome({
  build: { result, same, other },
}: {
  build: { readonly result: BuildResultWord; readonly same: number; readonly other: number }
}) {
  if (result !== 'succeeded') return <BuildResultState result={result} />
  if (other > 0) return <State mood="bad">diverged</State>
  if (same > 0) return <State mood="good">reproduced</State>
  return <State mood="good">built once</State>
}
