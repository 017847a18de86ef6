import { parseAllDocuments } from 'yaml'
import { filesBelow } from '../house/tree.ts'

export const KUBERNETES_FOLDER = 'deploy/kubernetes'

export type Container = {
  readonly name: string
  readonly image: string
  readonly args?: readonly string[]
  readonly env?: readonly { readonly name: string; readonly value: string }[]
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly securityContext: Record<string, unknown>
  readonly resources: { readonly requests: object; readonly limits: object }
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
  readonly startupProbe?: Probe
  readonly livenessProbe?: Probe
  readonly readinessProbe?: Probe
}

type Probe = { readonly httpGet: { readonly path: string; readonly port: string } }

export type Pod = {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> }
  readonly spec: {
    readonly automountServiceAccountToken: boolean
    readonly serviceAccountName: string
    readonly terminationGracePeriodSeconds?: number
    readonly securityContext: Record<string, unknown>
    readonly containers: readonly Container[]
    readonly volumes: readonly { readonly name: string; readonly secret?: { secretName: string } }[]
  }
}

/** An object of Kubernetes. */
export type Resource = {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string }
  readonly data?: Readonly<Record<string, string>>
  // biome-ignore lint/suspicious/noExplicitAny: each kind has a schema of its own, which a test checks.
  readonly spec?: any
}

/** Parses the objects of a file with one or several. */
export function parseResources(text: string): Resource[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Resource)
}

/** Lists the objects in the files, apart from those that only kustomize reads. */
export function listSources(): (Resource & { readonly path: string })[] {
  return filesBelow(KUBERNETES_FOLDER, '.yaml')
    .filter(({ path }) => !path.endsWith('kustomization.yaml'))
    .flatMap(({ path, text }) => parseResources(text).map((one) => ({ ...one, path })))
}

/** Returns the pod that an object makes; undefined when it makes none. */
export function podOf({ kind, spec }: Resource): Pod | undefined {
  if (kind === 'Deployment' || kind === 'StatefulSet') return spec.template
  return kind === 'CronJob' ? spec.jobTemplate.spec.template : undefined
}
