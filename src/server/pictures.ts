import { PictureMaker } from '../derivation/picture-maker.ts'
import { Pictures } from '../registry/images/pictures.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'
import type { Stores } from './stores.ts'

/** Builds the pictures of images, and the process that makes them, which starts with the first one. */
export function startPictures({ db, store }: Stores, log: Log, cleanup: CleanupStack): Pictures {
  const maker = new PictureMaker()
  const pictures = new Pictures(db, store, maker, (error) =>
    log.error({ err: error }, 'making a picture failed'),
  )
  cleanup.defer(async () => {
    await maker.close()
    await pictures.settle()
  })
  return pictures
}
