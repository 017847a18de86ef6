-- `lost_at`: since when the store is known to miss the bytes of a blob, or to have wrong ones. Such a blob is unknown to
-- clients until a push replaces its bytes. `replaced_at`: when that happened last; the row then has a newer key.
alter table blobs
  add column lost_at timestamptz,
  add column replaced_at timestamptz;

-- When a store got the mark of this installation: from then on, a store without it is another one.
alter table installation add column store_marked_at timestamptz;
