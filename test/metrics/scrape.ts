import type { TestRegistry } from '../support/registry.ts'

/** One metric of a scrape. */
export type ScrapedMetric = { readonly name: string; readonly type: string; readonly help: string }

/** Returns what /metrics answers. */
export async function scrape(registry: TestRegistry): Promise<string> {
  const answer = await registry.request('/metrics')
  if (answer.status !== 200) throw new Error(`/metrics answered ${answer.status}`)
  return answer.text()
}

/** Returns the metrics of a scrape, in its order. */
export function metricsOf(text: string): ScrapedMetric[] {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  )
  return [...text.matchAll(/^# HELP (\S+) (.*)$/gm)].map(([, name = '', help = '']) => {
    return { name, type: types.get(name) ?? '', help }
  })
}

/** Returns the value of a sample, such as `rookery_hosts{state="online"}`; undefined when the scrape has none. */
export function sampleOf(text: string, sample: string): number | undefined {
  const line = text.split('\n').find((one) => one.startsWith(`${sample} `))
  return line === undefined ? undefined : Number(line.slice(sample.length + 1))
}
