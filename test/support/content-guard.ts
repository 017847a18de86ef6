import { CONTENT_CHANGE, CONTENT_TABLES } from '../../src/db/content-writes.ts'
import type { Database } from '../../src/db/database.ts'

/**
 * Lets every statement of the tests fail that changes content, unless its text shows that: by its text alone, a server knows
 * that an answer it remembers becomes old. A function of the schema, or a cascade from another table, would hide it.
 */
export async function guardContentWrites(db: Database): Promise<void> {
  const pattern = CONTENT_CHANGE.replaceAll('\\b', '\\y').replaceAll("'", "''")
  await db.query(
    `create function assert_shows_change() returns trigger language plpgsql as $$
     begin
       -- A plan that a test asks for shows the name of a prepared statement.
       if current_query() !~* '^explain' and regexp_replace(current_query(), '/\\* \\w+ \\*/ ?', '') !~* '${pattern}' then
         raise exception 'changesContent (src/db/content-writes.ts) does not know: %', current_query();
       end if;
       return null;
     end
     $$`,
  )
  for (const table of CONTENT_TABLES) {
    await db.query(
      `create trigger ${table}_show_change after update or delete or truncate on ${table}
         execute function assert_shows_change()`,
    )
  }
}
