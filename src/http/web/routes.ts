import type { Route } from '../route.ts'
import { assetRoutes } from './assets.ts'
import { buildPages } from './builds.tsx'
import { comparisonPages } from './comparison.tsx'
import { credentialPages } from './credentials.tsx'
import { deploymentPages } from './deployments.tsx'
import type { PageDeps } from './deps.ts'
import { homePages } from './home.tsx'
import { hostPages } from './hosts.tsx'
import { imagePages } from './images.tsx'
import { kernelPages } from './kernels.tsx'
import { loginPages } from './login.tsx'
import { packagePages } from './packages.tsx'
import { picturePages } from './pictures.tsx'
import { repositoryPages } from './repository.tsx'
import { searchPages } from './search.tsx'
import { tagPages } from './tags.tsx'
import { webhookPages } from './webhooks.tsx'

/** The table of the pages for people: spec/pages.md. */
export function pageRoutes(deps: PageDeps): Route[] {
  return [
    ...assetRoutes(),
    ...loginPages(deps),
    ...homePages(deps),
    ...searchPages(deps),
    ...repositoryPages(deps),
    ...tagPages(deps),
    ...picturePages(deps),
    ...packagePages(deps),
    ...kernelPages(deps),
    ...imagePages(deps),
    ...comparisonPages(deps),
    ...buildPages(deps),
    ...deploymentPages(deps),
    ...hostPages(deps),
    ...webhookPages(deps),
    ...credentialPages(deps),
  ]
}
