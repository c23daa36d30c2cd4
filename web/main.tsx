/** The console: starts what follows the server, and shows it. */
import { render } from 'preact'
import { watchFeed } from './feed.ts'
import { watchFind } from './find.ts'
import { watchHistory } from './history.ts'
import { watchKeys } from './keys.ts'
import { watchLetters } from './letters.ts'
import { loadModels } from './models.ts'
import { watchOutbox } from './outbox.ts'
import { watchQueue } from './queue.ts'
import { watchSpike } from './spike.ts'
import { watchStatus } from './status.ts'
import { watchTitle } from './title.ts'
import { App } from './view/app.tsx'
import { watchWorkers } from './workers.ts'

watchKeys()
watchLetters()
watchFind()
watchSpike()
watchFeed()
watchTitle()
watchStatus()
void watchQueue()
void watchHistory()
void watchWorkers()
// Last: the others hear of the first model.
void watchOutbox()
void loadModels()
render(<App />, document.getElementById('console')!)
