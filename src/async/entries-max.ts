/**
 * Returns the limit of an LRUCache that takes memory for the entries that it has. With the option `max` it would take the
 * memory of all of them at once, 28 bytes each: 2.8 MB for a cache of 100 000 entries that stays empty.
 */
export function entriesMax(count: number): { maxSize: number; sizeCalculation(): number } {
  return { maxSize: count, sizeCalculation: () => 1 }
}
