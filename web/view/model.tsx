/** The switch between models, where there are several: what is saved, made in numbers and followed is of the chosen one. */
import { choose, models } from '../models.ts'
import { useStore } from '../store.ts'

export function ModelSwitch() {
  const { list, chosen, problem } = useStore(models)
  if (problem) {
    return (
      <p class="banner bad" role="alert">
        <strong>The models cannot be read.</strong> {problem}
      </p>
    )
  }
  if (list.length < 2) return null
  return (
    <p class="model">
      <label for="model">Model</label>
      <select id="model" value={chosen?.name ?? ''} onChange={({ currentTarget }) => choose(currentTarget.value)}>
        {list.map(({ name }) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </p>
  )
}
