/** The console: starts what follows the server, and shows it. */
import { render } from 'preact'
import { watchCounts } from './counts.ts'
import { watchFeed } from './feed.ts'
import { watchFind } from './find.ts'
import { watchLetters } from './letters.ts'
import { loadModels } from './models.ts'
import { watchOutbox } from './outbox.ts'
import { watchQueue } from './queue.ts'
import { watchSpike } from './spike.ts'
import { App } from './view/app.tsx'

watchLetters()
watchFind()
watchSpike()
watchFeed()
void watchQueue()
void watchCounts()
// Last: the others hear of the first model.
void watchOutbox()
void loadModels()
render(<App />, document.getElementById('console')!)
