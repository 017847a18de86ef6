import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT } from './tree.ts'

type LockedPackage = {
  readonly version?: string
  readonly hasInstallScript?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
}
type Locked = Readonly<Record<string, LockedPackage>>

const json = (path: string) => JSON.parse(readFileSync(join(ROOT, path), 'utf8'))
const { packages } = json('package-lock.json') as { packages: Locked }

/** Lists the optional dependencies without an entry: npm writes only those of its own platform at times. */
function missingOptional(locked: Locked): string[] {
  return Object.entries(locked).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !folders(path).some((folder) => `${folder}node_modules/${name}` in locked))
      .map((name) => `${path || 'the project'}: ${name}`),
  )
}

/** Lists the folders in which Node searches for a dependency of a package, from the nearest. */
function folders(path: string): string[] {
  const parts = path.split('node_modules/')
  return parts.map((_, index) => {
    const inner = parts.slice(0, parts.length - index).join('node_modules/')
    return inner === '' || inner.endsWith('/') ? inner : `${inner}/`
  })
}

/** Returns the package's name, of the last folder in its path. */
const nameOf = (path: string) => path.slice(path.lastIndexOf('node_modules/') + 13)

describe('the lock file', () => {
  it('has the optional packages of every platform, so that npm ci works on each', () => {
    expect(Object.values(packages).some((one) => one.optionalDependencies)).toBe(true)
    expect(missingOptional(packages)).toEqual([])
  })

  it('is incomplete without the package of one platform', () => {
    const { 'node_modules/@biomejs/cli-darwin-x64': _, ...rest } = packages
    expect(missingOptional(rest)).toEqual(['node_modules/@biomejs/biome: @biomejs/cli-darwin-x64'])
  })

  it('runs no install script: package.json refuses each by name', () => {
    const { allowScripts } = json('package.json') as { allowScripts: Record<string, boolean> }
    const withScripts = Object.entries(packages)
      .filter(([, one]) => one.hasInstallScript)
      .map(([path]) => nameOf(path))
    expect(Object.keys(allowScripts).sort()).toEqual(withScripts.sort())
    expect(Object.values(allowScripts)).toEqual(withScripts.map(() => false))
  })
})
