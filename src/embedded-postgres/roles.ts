import pg from 'pg'
import { DATABASE, PORT, SUPERUSER, USER } from './settings.ts'

const CONNECT_MILLISECONDS_MAX = 5_000
const QUERY_MILLISECONDS_MAX = 30_000
const DUPLICATE_OBJECT = '42710'

/**
 * Makes the role and the database of rookery when they are missing. The role owns the database and has no right
 * besides: it can neither read files nor run programs. Only the owner of the folder calls it.
 */
export async function prepareDatabase(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ isSuper: boolean | null; hasDatabase: boolean }>(
    `select (select rolsuper from pg_roles where rolname = $1) as "isSuper",
            exists (select 1 from pg_database where datname = $2) as "hasDatabase"`,
    [USER, DATABASE],
  )
  const { isSuper = null, hasDatabase = false } = rows[0] ?? {}
  if (isSuper === null) await client.query(CREATE_ROLE)
  if (!hasDatabase) await client.query('create database rookery owner rookery')
  if (isSuper === true) await replaceFormerRole(client)
  if (isSuper !== false || !hasDatabase) await client.query(CLOSE_OTHER_DATABASES)
}

const CREATE_ROLE = 'create role rookery login'
// The lock of the folder's owner lives in the database postgres.
const CLOSE_OTHER_DATABASES = 'revoke connect on database postgres, template1 from public'

/** Makes the superuser of a cluster in which a former release made `rookery` the only one. */
export async function makeSuperuser(socketFolder: string): Promise<void> {
  await withClient(socketFolder, USER, 'postgres', async (client) => {
    try {
      await client.query('create role rookery_supervisor superuser login')
    } catch (error) {
      if (!(error instanceof pg.DatabaseError && error.code === DUPLICATE_OBJECT)) throw error
    }
  })
}

/** Gives what the former superuser `rookery` owns to an ordinary role of that name, in one transaction. */
async function replaceFormerRole({ host }: pg.Client): Promise<void> {
  await withClient(host, SUPERUSER, DATABASE, async (client) => {
    await client.query('begin')
    // The role that initdb made must stay a superuser and cannot be dropped, and now it cannot log in.
    await client.query('alter role rookery rename to rookery_initdb')
    await client.query('alter role rookery_initdb nologin password null')
    await client.query(CREATE_ROLE)
    await client.query('alter database rookery owner to rookery')
    await client.query(GIVE_OBJECTS)
    await client.query('commit')
  })
}

// An owned sequence follows its table.
const GIVE_OBJECTS = `
  do $$
  declare
    change text;
  begin
    for change in
      select format('alter schema %I owner to rookery', nspname)
        from pg_namespace
       where nspname not in ('public', 'information_schema') and nspname !~ '^pg_'
      union all
      select format('alter %s %s owner to rookery',
                    case relkind when 'S' then 'sequence' when 'v' then 'view'
                                 when 'm' then 'materialized view' else 'table' end,
                    c.oid::regclass)
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
       where relkind in ('r', 'p', 'v', 'm', 'S') and nspname <> 'information_schema' and nspname !~ '^pg_'
         and not exists (select from pg_depend
                          where classid = 'pg_class'::regclass and objid = c.oid
                            and refclassid = 'pg_class'::regclass and deptype in ('a', 'i'))
      union all
      select format('alter routine %s owner to rookery', p.oid::regprocedure)
        from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace
       where nspname <> 'information_schema' and nspname !~ '^pg_'
    loop
      execute change;
    end loop;
  end
  $$`

async function withClient(
  host: string,
  user: string,
  database: string,
  work: (client: pg.Client) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({
    ...{ host, port: PORT, user, database, ssl: false },
    connectionTimeoutMillis: CONNECT_MILLISECONDS_MAX,
    query_timeout: QUERY_MILLISECONDS_MAX,
  })
  client.on('error', () => {})
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}
