import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Mounts a disk of this size in a new folder. Returns undefined without the right to mount. */
export async function mountSmallDisk(mib: number): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-small-disk-'))
  try {
    const options = ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', folder]
    execFileSync('mount', options, { stdio: 'pipe' })
    return folder
  } catch {
    await rm(folder, { recursive: true })
    process.stderr.write('SKIPPED: this machine lets nobody mount a small disk\n')
    return undefined
  }
}

/** Unmounts and removes a disk of `mountSmallDisk`. */
export async function unmountSmallDisk(folder: string): Promise<void> {
  execFileSync('umount', [folder])
  await rm(folder, { recursive: true })
}
