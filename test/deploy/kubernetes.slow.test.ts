import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { parseConfig } from '../../src/config/config.ts'
import { SETTINGS } from '../../src/config/settings.ts'
import { operationRoutes } from '../../src/http/operations.ts'
import { ROOT, readPage } from '../house/tree.ts'
import { RULES_FILE } from '../metrics/expressions.ts'
import { KUBERNETES_FOLDER, listSources, parseResources, podOf, type Resource } from './cluster.ts'

const SECRETS = {
  'admin-password': 'pulled out of a hat',
  'aws-credentials': '[default]',
  'database-url': 'postgres://rookery:secret@db.example.org/rookery',
  'master-key': 'x',
}
/** The uid of the image. */
const UID = 10001
/** Time to close the database and to stop Postgres, after the requests have ended. */
const CLOSING_SECONDS_MIN = 10
/** Earlier ones have another kustomize: it knows no components. */
const KUSTOMIZE_MAJOR_MIN = 4

const folder = mkdtempSync(join(tmpdir(), 'rookery-kubernetes-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const sources = listSources()
const pods = sources.flatMap((source) => {
  const pod = podOf(source)
  return pod === undefined ? [] : [{ ...source, pod }]
})
const settingNames = new Set<string>(SETTINGS.map(({ name }) => name))
const defaultOf = (name: string) => Number(SETTINGS.find((one) => one.name === name)?.default)

/** Returns the package that has the schemas of an object. */
function schemasOf({ apiVersion }: Resource): string {
  const group = apiVersion.startsWith('monitoring.coreos.com/')
    ? '@kubernetes-models/prometheus-operator'
    : 'kubernetes-models'
  return `${group}/${apiVersion}`
}

describe('the files for Kubernetes', () => {
  it.each(sources)('$path has the values that the schema of $kind allows', async (source) => {
    const { path: _, ...resource } = source
    const models = await import(schemasOf(resource))
    expect(() => new models[resource.kind](resource).validate()).not.toThrow()
  })

  it('have no field that Kubernetes does not know', () => {
    const lines = sources.flatMap(({ path: _, ...resource }, index) => [
      `import type { I${resource.kind} as K${index} } from '${schemasOf(resource)}'`,
      `export const k${index}: K${index} = ${JSON.stringify(resource)}`,
    ])
    expect(unknownFields(lines.join('\n'))).toBe('')
    const wrong = lines.join('\n').replace('"readOnlyRootFilesystem"', '"readonlyRootFilesystem"')
    expect(unknownFields(wrong)).toContain('readonlyRootFilesystem')
  })

  it('name settings that exist, secrets as files, and the routes and the port of the server', () => {
    const routes = operationRoutes({ version: '' } as never).map(({ path }) => path)
    for (const { pod } of pods) {
      for (const container of pod.spec.containers) {
        for (const { name } of container.env ?? []) {
          const setting = name.replace(/_FILE$/, '')
          if (name.startsWith('ROOKERY_'))
            expect([name, setting].some((one) => settingNames.has(one))).toBe(true)
        }
        const { startupProbe, livenessProbe, readinessProbe, ports = [] } = container
        if (container.name !== 'rookery') continue
        expect(ports).toEqual([{ name: 'http', containerPort: 5000 }])
        expect(readinessProbe?.httpGet.path).toBe('/readyz')
        for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
          expect(routes).toContain(probe?.httpGet.path)
          expect(probe?.httpGet.port).toBe('http')
        }
      }
    }
  })

  it('agree with the image: its user, its port and its data folder', () => {
    const image = readPage('deploy/Containerfile')
    expect(image).toContain(`USER ${UID}:${UID}\n`)
    const [, port] = /^EXPOSE (\d+)$/m.exec(image) ?? []
    const [, dataFolder] = /ROOKERY_DATA_DIR=(\S+)/.exec(image) ?? []
    expect(image).toMatch(/^ENTRYPOINT \["rookery"\]$/m)
    for (const kind of ['Deployment', 'StatefulSet']) {
      const [container] = pods.find((one) => one.kind === kind)?.pod.spec.containers ?? []
      expect(container?.ports?.map(({ containerPort }) => String(containerPort))).toEqual([port])
      expect(container?.volumeMounts.map(({ mountPath }) => mountPath)).toContain(dataFolder)
    }
  })

  it.each(pods)('$path runs without rights: the standard "restricted"', ({ pod }) => {
    const { spec } = pod
    expect(spec.automountServiceAccountToken).toBe(false)
    expect(spec.serviceAccountName).toBe('rookery')
    expect(spec.securityContext).toMatchObject({
      ...{ runAsNonRoot: true, runAsUser: UID, runAsGroup: UID, fsGroup: UID },
      seccompProfile: { type: 'RuntimeDefault' },
    })
    for (const container of spec.containers) {
      expect(container.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      })
      expect(container.resources).toMatchObject({ requests: { memory: '384Mi' } })
      expect(container.volumeMounts.map(({ mountPath }) => mountPath)).toContain('/tmp')
    }
  })

  it('select the pods of the server, and the service not those of a backup', () => {
    const [server, backup] = ['Deployment', 'CronJob'].map(
      (kind) => pods.find((one) => one.kind === kind)?.pod.metadata.labels ?? {},
    )
    const byKind = (kind: string) => sources.find((one) => one.kind === kind)?.spec
    const matches = (selector: Record<string, string>, labels: Record<string, string> = {}) =>
      Object.entries(selector).every(([name, value]) => labels[name] === value)
    for (const selector of [
      byKind('Service').selector,
      byKind('Deployment').selector.matchLabels,
      byKind('StatefulSet').selector.matchLabels,
      byKind('PodDisruptionBudget').selector.matchLabels,
      byKind('ServiceMonitor').selector.matchLabels,
    ]) {
      expect(matches(selector, server)).toBe(true)
      expect(matches(selector, backup)).toBe(false)
    }
    for (const labels of [server, backup]) {
      expect(matches(byKind('NetworkPolicy').podSelector.matchLabels, labels)).toBe(true)
    }
  })

  it('have the alerts of deploy/prometheus', () => {
    const rule = sources.find(({ kind }) => kind === 'PrometheusRule')
    expect(rule?.spec).toEqual(parse(readPage(RULES_FILE)))
  })
})

/** Returns the errors of the compiler. */
function unknownFields(text: string): string {
  const place = mkdtempSync(join(folder, 'types-'))
  symlinkSync(join(ROOT, 'node_modules'), join(place, 'node_modules'))
  writeFileSync(join(place, 'package.json'), '{"type":"module"}')
  writeFileSync(join(place, 'check.ts'), text)
  const options = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext']
  const { stdout, stderr } = spawnSync(
    join(ROOT, 'node_modules/.bin/tsc'),
    [...options, '--types', '', 'check.ts'],
    { cwd: place, encoding: 'utf8' },
  )
  return stdout + stderr
}

describe.runIf(kustomizeMajor() >= KUSTOMIZE_MAJOR_MIN)('kubectl kustomize renders', () => {
  it('the example: two replicas, with its image, settings and secrets', () => {
    const rendered = render((text) => text)
    const kinds = rendered.map(({ kind }) => kind).sort()
    expect(kinds).toEqual([
      ...['ConfigMap', 'Deployment', 'Ingress', 'NetworkPolicy', 'PodDisruptionBudget', 'Secret'],
      ...['Service', 'ServiceAccount'],
    ])
    assertConsistent(rendered)
  })

  it('the example with everything', () => {
    const rendered = render((text) => text.replaceAll('# - ../', '- ../'))
    expect(rendered.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(['CronJob', 'PersistentVolumeClaim', 'PrometheusRule']),
    )
    assertConsistent(rendered)
  })

  it('the embedded Postgres in one pod, without the replicas', () => {
    const rendered = render((text) => text.replace('- ../base', '- ../embedded'))
    expect(rendered.filter((one) => podOf(one)).map(({ kind }) => kind)).toEqual(['StatefulSet'])
    assertConsistent(rendered)
  })

  /** Renders a copy with a changed example. */
  function render(change: (kustomization: string) => string): Resource[] {
    const place = mkdtempSync(join(folder, 'rendered-'))
    cpSync(join(ROOT, KUBERNETES_FOLDER), place, { recursive: true })
    const example = join(place, 'example')
    for (const [name, text] of Object.entries(SECRETS)) writeFileSync(join(example, name), text)
    const file = join(example, 'kustomization.yaml')
    writeFileSync(file, change(readPage(`${KUBERNETES_FOLDER}/example/kustomization.yaml`)))
    return parseResources(execFileSync('kubectl', ['kustomize', example], { encoding: 'utf8' }))
  }

  /** Fails when a pod names settings, secrets or volumes that are not there, or ends before the server has. */
  function assertConsistent(rendered: readonly Resource[]) {
    const named = (kind: string) =>
      rendered.filter((one) => one.kind === kind).map(({ metadata }) => metadata.name)
    const settings = rendered.find(({ kind }) => kind === 'ConfigMap')?.data ?? {}
    const secrets = join(folder, 'secrets')
    const drainSeconds =
      Number(settings.ROOKERY_DRAIN_DELAY_SECONDS) + defaultOf('ROOKERY_DRAIN_SECONDS')
    cpSync(secretsFolder(), secrets, { recursive: true })
    for (const pod of rendered.flatMap((one) => podOf(one) ?? [])) {
      for (const { secret } of pod.spec.volumes) {
        if (secret !== undefined) expect(named('Secret')).toContain(secret.secretName)
      }
      const [container] = pod.spec.containers
      expect(container).toMatchObject({
        image: 'registry.example.org/rookery/rookery:VERSION',
        envFrom: [{ configMapRef: { name: named('ConfigMap')[0] } }],
      })
      const files = (container?.env ?? []).map(({ name, value }) => [
        name,
        value.replace('/run/secrets/rookery', secrets),
      ])
      const { listen } = parseConfig({ ...settings, ...Object.fromEntries(files) })
      expect(listen.port).toBe(5000)
      const { terminationGracePeriodSeconds: grace } = pod.spec
      if (grace !== undefined) expect(grace).toBeGreaterThan(drainSeconds + CLOSING_SECONDS_MIN)
    }
  }
})

function secretsFolder(): string {
  const place = mkdtempSync(join(folder, 'given-'))
  for (const [name, text] of Object.entries(SECRETS)) writeFileSync(join(place, name), text)
  return place
}

/** Returns 0 without kubectl. */
function kustomizeMajor(): number {
  const { stdout } = spawnSync('kubectl', ['version', '--client'], { encoding: 'utf8' })
  return Number(/^Kustomize Version: v(\d+)\./m.exec(stdout ?? '')?.[1] ?? 0)
}
