export type { View, Visibility } from '../db/repositories.ts'
