import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { breakingStatements, changedMigrations, type Releases } from './migrations.ts'
import { filesBelow, readPage } from './tree.ts'

const releases = JSON.parse(readPage('schema/releases.json')) as Releases
const migrations = Object.fromEntries(
  filesBelow('schema', '.sql').map(({ path, text }) => [path, text]),
)

const FIRST = 'create table tags (name text not null);'
const RELEASED: Releases = {
  '1.0.0': { '0001-first.sql': createHash('sha256').update(FIRST).digest('hex') },
}
const withNext = (next: string) => ({ '0001-first.sql': FIRST, '0002-next.sql': next })

describe('the previous release runs on the schema of this one:', () => {
  it('released migrations stay as they are', () => {
    expect(Object.keys(migrations).length).toBeGreaterThan(10)
    expect(changedMigrations(releases, migrations)).toEqual([])
  })

  it('later migrations only add', () => {
    expect(breakingStatements(releases, migrations)).toEqual([])
  })
})

describe('a breach is caught:', () => {
  it('a released migration that has changed or is missing', () => {
    const changed = { '0001-first.sql': `${FIRST}\n` }
    expect(changedMigrations(RELEASED, changed)).toEqual([
      '0001-first.sql is not as it is in 1.0.0',
    ])
    expect(changedMigrations(RELEASED, {})).toEqual(['0001-first.sql is missing; 1.0.0 has it'])
    expect(changedMigrations(RELEASED, withNext(''))).toEqual([])
  })

  it.each([
    'drop table tags;',
    'drop table if exists tags;',
    'drop function tag_of;',
    'alter table tags rename column name to tag;',
    'alter table tags rename to labels;',
    'alter type state rename value',
    'alter table tags drop column name;',
    'alter table tags\n  add column a text,\n  drop column name;',
    'alter table only tags alter column name type varchar(10);',
    'alter table tags alter column name set data type bytea;',
    'alter table tags add column a text, alter column name set not null;',
    'alter table tags add column a integer not null;',
    'alter table tags add column a integer not null, add column b integer default 1;',
    'alter table tags add column a integer default 1, add column b integer not null;',
    'alter table tags alter column name drop default;',
    "alter table tags add constraint tags_name check (name <> '');",
    'create unique index tags_by_name on tags (name);',
    '-- Unused since 2.0.0.\nalter table tags drop column name;',
  ])('%s', (next) => {
    expect(breakingStatements(RELEASED, withNext(next))).toHaveLength(1)
  })

  it.each([
    'create table labels (a integer not null);\nalter table labels add constraint a check (a > 0);',
    'create table labels (a text);\ncreate unique index labels_by_a on labels (a);\ndrop table labels;',
    'alter table tags add column a text, add column b integer not null default 0;',
    'alter table tags add column a integer default 0 not null;',
    'alter table tags add column a integer not null generated always as (1) stored;',
    'alter table tags alter column name drop not null;',
    'create index tags_by_name on tags (name);\ndrop index tags_by_name;',
    'create function f() returns void language sql as $$ drop table tags; $$;',
    '-- drop table tags;',
    '-- Unused since 1.0.0.\nalter table tags drop column name;',
  ])('but not %s', (next) => {
    expect(breakingStatements(RELEASED, withNext(next))).toEqual([])
  })

  it('not before the first release', () => {
    expect(breakingStatements({}, withNext('drop table tags;'))).toEqual([])
  })
})
