import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CLIENTS, type ClientSandbox } from './client-sandbox.ts'

/** Folder of podman and its helpers, as scripts/get-clients.sh unpacks them. */
const PODMAN = join(CLIENTS, '../podman/usr')

/**
 * Lets podman, buildah and skopeo of this user keep images, caches and temporary files in its
 * home, without a daemon and without overlays.
 */
export async function prepareContainerTools({
  home,
  environment,
}: Pick<ClientSandbox, 'home' | 'environment'>): Promise<void> {
  const runtime = join(home, 'run')
  const temporary = join(home, 'tmp')
  const settings = join(home, '.config/containers')
  await mkdir(settings, { recursive: true })
  await mkdir(temporary, { recursive: true })
  await mkdir(runtime, { recursive: true, mode: 0o700 })
  // buildah before 1.30 fails without a file of logins.
  await writeFile(join(home, 'auth.json'), '{}')
  await writeFile(join(settings, 'storage.conf'), '[storage]\ndriver = "vfs"\n')
  await writeFile(
    join(settings, 'policy.json'),
    JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }),
  )
  await writeFile(
    join(settings, 'containers.conf'),
    `[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "none"
conmon_path = ["${PODMAN}/bin/conmon", "/usr/bin/conmon"]
helper_binaries_dir = ["${PODMAN}/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"]
[engine.runtimes]
crun = ["${PODMAN}/bin/crun", "/usr/bin/crun"]
`,
  )
  Object.assign(environment, {
    CONTAINERS_CONF: join(settings, 'containers.conf'),
    CONTAINERS_STORAGE_CONF: join(settings, 'storage.conf'),
    BUILDAH_ISOLATION: 'chroot',
    PODMAN_IGNORE_CGROUPSV1_WARNING: '1',
    TMPDIR: temporary,
    XDG_RUNTIME_DIR: runtime,
  })
}
