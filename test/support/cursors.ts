import { join } from 'node:path'
import { type MasterKey, openMasterKey } from '../../src/auth/master-key.ts'
import type { FeedCursors } from '../../src/events/cursor.ts'
import { feedCursors } from '../../src/server/events.ts'
import { pageCursors } from '../../src/server/http.ts'
import { MASTER_KEY_FILE } from '../../src/server/signing-keys.ts'

type Place = { readonly folder: string }

/** Returns the cursors of the feed of a registry with this data folder. */
export async function feedCursorsOf(registry: Place): Promise<FeedCursors> {
  return feedCursors(await masterKeyOf(registry))
}

/** Returns the cursor of a list that continues after the row with this number. */
export async function pageCursorOf(registry: Place, number: number): Promise<string> {
  return pageCursors(await masterKeyOf(registry)).format(number)
}

function masterKeyOf({ folder }: Place): Promise<MasterKey> {
  return openMasterKey(join(folder, MASTER_KEY_FILE), false)
}
