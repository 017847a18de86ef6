import type { ImageReference } from '../../client/image-reference.ts'
import type { Login } from '../../client/login.ts'
import type { ImagePackage } from '../../unikernel/image-packages.ts'
import type { Inspected } from './inspect-report.ts'

type Access = { readonly login: Login | undefined; readonly environment: NodeJS.ProcessEnv }

/**
 * Replaces what the image says about its opam packages by what its registry knows, with an index of opam repositories. Only a
 * Rookery knows more: any other answer leaves the packages as they are.
 */
export async function withPackages(
  inspected: Inspected,
  reference: ImageReference,
  access: Access,
): Promise<Inspected> {
  const listed = await findPackages(inspected, reference, access)
  if (listed === undefined) return inspected
  const others = inspected.packages.filter(({ ecosystem }) => ecosystem !== 'opam')
  const packages = [...others, ...listed.map((one) => ({ ...one, ecosystem: 'opam' }))]
  return { ...inspected, packages, packagesFrom: 'registry' }
}

async function findPackages(
  { digest }: Inspected,
  reference: ImageReference,
  access: Access,
): Promise<readonly Omit<ImagePackage, 'ecosystem'>[] | undefined> {
  const { RegistryApi } = await import('../../client/registry-api.ts')
  const api = new RegistryApi(reference, access)
  try {
    const path = `/api/v1/repositories/${reference.repository}/images/${digest}`
    const found = (await api.find(path, 'the packages')) as { readonly packages?: unknown }
    return Array.isArray(found.packages) ? found.packages : undefined
  } catch {
    // The output says that the packages are those that the image itself names.
    return undefined
  } finally {
    await api.close()
  }
}
