import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ClientSandbox, clientPath } from './client-sandbox.ts'

/** Folder of what scripts/get-clients.sh unpacked for podman, or the system's when podman is the system's. */
function podmanHelpers(): { conmon: string; crun: string; folder: string } {
  const root = join(clientPath('podman'), '../../podman/usr')
  return {
    conmon: join(root, 'bin/conmon'),
    crun: join(root, 'bin/crun'),
    folder: join(root, 'lib/podman'),
  }
}

/**
 * Lets podman, buildah and skopeo of this user keep images, caches and temporary files in the
 * folder of the sandbox, without a daemon and without overlays.
 */
export async function prepareContainerTools(sandbox: ClientSandbox): Promise<void> {
  const { home } = sandbox
  const { conmon, crun, folder } = podmanHelpers()
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
conmon_path = ["${conmon}", "/usr/bin/conmon"]
helper_binaries_dir = ["${folder}", "/usr/libexec/podman", "/usr/lib/podman"]
[engine.runtimes]
crun = ["${crun}", "/usr/bin/crun"]
`,
  )
  Object.assign(sandbox.environment, {
    CONTAINERS_CONF: join(settings, 'containers.conf'),
    CONTAINERS_STORAGE_CONF: join(settings, 'storage.conf'),
    BUILDAH_ISOLATION: 'chroot',
    PODMAN_IGNORE_CGROUPSV1_WARNING: '1',
    TMPDIR: temporary,
    XDG_RUNTIME_DIR: runtime,
  })
}
