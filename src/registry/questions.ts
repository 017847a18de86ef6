/** The connections for lists and searches, as the routes use them. */
export type { Asker, QuestionQueryable, Questions } from '../db/questions.ts'
