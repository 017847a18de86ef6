import type { Repository } from '../oci/reference.ts'
import { DataTable, Empty, Heading, NextPage } from './elements.tsx'
import { repositoryPath } from './paths.ts'

/** The page of all repositories, in the order of their names. */
export function RepositoriesPage({
  repositories,
  next,
}: {
  repositories: readonly Repository[]
  next: string | undefined
}) {
  return (
    <>
      <Heading>Repositories</Heading>
      {repositories.length === 0 ? (
        <Empty>
          There is no repository that you may see. The <a href="/">start page</a> shows the first
          push.
        </Empty>
      ) : (
        <DataTable
          caption="Repositories"
          filter
          columns={['Repository']}
          rows={repositories.map((repository) => ({
            key: repository,
            cells: [<a href={repositoryPath(repository)}>{repository}</a>],
          }))}
        />
      )}
      <NextPage href={next} />
    </>
  )
}
