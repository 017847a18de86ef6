import { join } from 'node:path'
import { parse } from 'yaml'
import { ROOT, readPage } from '../house/tree.ts'

export const PROMETHEUS_FOLDER = join(ROOT, 'deploy/prometheus')
export const RULES_FILE = 'deploy/prometheus/rules.yml'
export const DASHBOARD_FILE = 'deploy/grafana/rookery.json'

/** A query, and the name of its alert or panel. */
export type Expression = { readonly of: string; readonly expression: string }

/** An alert, and the part of a page that says what to do. */
export type Alert = Expression & { readonly runbook: string }

type Rule = {
  readonly alert: string
  readonly expr: string
  readonly annotations: { readonly runbook: string }
}
type Panel = { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }

/** Returns the alerts with their queries. */
export function alerts(): Alert[] {
  const { groups } = parse(readPage(RULES_FILE)) as { groups: { rules: Rule[] }[] }
  return groups.flatMap(({ rules }) =>
    rules.map(({ alert, expr, annotations }) => ({
      of: alert,
      expression: expr,
      runbook: annotations.runbook,
    })),
  )
}

/** Returns the queries of the dashboard with values for its variables. */
export function panelQueries(job: string): Expression[] {
  const { panels } = JSON.parse(readPage(DASHBOARD_FILE)) as { panels: Panel[] }
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      of: title,
      expression: expr
        .replaceAll('$__rate_interval', '1m')
        .replaceAll('$job', job)
        .replaceAll('$instance', '.*'),
    })),
  )
}

/** Returns the names of metrics in a query, without the suffixes of histograms. */
export function metricNames({ expression }: Expression): string[] {
  return [...expression.matchAll(/\b(?:rookery|process|nodejs)_\w+/g)].map(([name]) =>
    name.replace(/_seconds_(?:bucket|count|sum)$/, '_seconds'),
  )
}
