//! Runs the budget of a rotating role against a model of OpenRouter, with any order of spending, rotations,
//! emergencies, lost and late calls, crashes, failovers, budget changes and resets. Reports lag by up to five
//! minutes and sometimes replace exact readings. Readings fail, so that resets are noticed late. In every
//! window, spending must not exceed the budget plus what was in flight.
//!
//! The order of storing and sending is that of `rotation::budget`.

use jiff::Timestamp;
use secrecy::SecretString;

use super::window::Window;
use super::{Amount, Budget, Counting, Ledger, Next, Reading, SETTLED};
use crate::openrouter::{KeyHash, LimitReset};

/// A small generator of sufficient quality. Its seed determines everything in a run of the model.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `below`.
    fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    /// True once in this many calls, on average.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A key at OpenRouter.
struct Key {
    hash: KeyHash,
    limit: Amount,
    /// What enforcement counts in the window that began at `window`.
    spent: Amount,
    window: Timestamp,
    /// The charges with their times. Reports show them later.
    charges: Vec<(i64, Amount)>,
    /// The calls in flight, with the times at which they complete.
    calls: Vec<(i64, Amount)>,
    /// The most that was in flight at any time in the window.
    most_in_flight: Amount,
    /// What was in flight at the last reading, and what has begun since. The limit that follows from the
    /// reading does not stop any of that.
    since_reading: Amount,
    /// Nobody has the key before the switch is stored.
    is_handed_out: bool,
    disabled: bool,
}

/// OpenRouter.
struct Model {
    now: i64,
    reset: Option<LimitReset>,
    lag: i64,
    keys: Vec<Key>,
    /// Limit calls that arrive later.
    late: Vec<(i64, KeyHash, Amount)>,
    windows: Vec<Outcome>,
    in_flight_of_deleted: Amount,
    spent: Amount,
    most_budget: Amount,
}

/// The outcome of a window.
struct Outcome {
    spent: Amount,
    budget: Amount,
    in_flight: Amount,
}

impl Model {
    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    fn window(&self) -> Timestamp {
        Window::at(self.reset, self.time()).start()
    }

    fn key(&mut self, hash: &KeyHash) -> Option<&mut Key> {
        self.keys.iter_mut().find(|key| key.hash == *hash)
    }

    /// Time passes: calls complete, late limits arrive, windows end.
    fn pass(&mut self, seconds: i64) {
        let until = self.now + seconds;
        loop {
            let end = Window::at(self.reset, self.time()).end();
            let end = end.map_or(i64::MAX, Timestamp::as_second);
            let calls = self
                .keys
                .iter()
                .flat_map(|key| &key.calls)
                .map(|(at, _)| *at);
            let late = self.late.iter().map(|(at, ..)| *at);
            let next = calls.chain(late).chain([end, until]).min().unwrap();
            self.now = next.max(self.now);
            self.happen(self.now == end);
            if self.now >= until {
                return;
            }
        }
    }

    fn happen(&mut self, ends_window: bool) {
        if ends_window {
            self.close_window();
        }
        let (now, window) = (self.now, self.window());
        let arrived = self.late.extract_if(.., |(at, ..)| *at <= now);
        for (_, hash, limit) in arrived.collect::<Vec<_>>() {
            if let Some(key) = self.key(&hash) {
                key.limit = limit;
            }
        }
        for key in &mut self.keys {
            if key.window != window {
                (key.window, key.spent) = (window, Amount::ZERO);
                key.charges.clear();
            }
            let done = key.calls.extract_if(.., |(at, _)| *at <= now);
            for (_, cost) in done.collect::<Vec<_>>() {
                key.spent = key.spent.plus(cost);
                key.charges.push((now, cost));
                self.spent = self.spent.plus(cost);
            }
        }
    }

    /// Deletes a key, and what it has in flight with it.
    fn delete(&mut self, is_deleted: impl Fn(&KeyHash) -> bool) {
        let deleted = self.keys.extract_if(.., |key| is_deleted(&key.hash));
        self.in_flight_of_deleted = deleted
            .map(|key| key.most_in_flight)
            .fold(self.in_flight_of_deleted, Amount::plus);
    }

    fn close_window(&mut self) {
        let in_flight: Amount = self.keys.iter().map(|key| key.most_in_flight).sum();
        let in_flight = in_flight.plus(std::mem::take(&mut self.in_flight_of_deleted));
        self.windows.push(Outcome {
            spent: std::mem::take(&mut self.spent),
            budget: std::mem::take(&mut self.most_budget),
            in_flight,
        });
        for key in &mut self.keys {
            key.most_in_flight = key.calls.iter().map(|(_, cost)| *cost).sum();
        }
    }

    /// An application spends as much as it can.
    fn spend(&mut self, dice: &mut Dice, price: Amount) {
        let now = self.now;
        for key in &mut self.keys {
            for _ in 0..dice.below(12) {
                let works = key.is_handed_out
                    && !key.disabled
                    && key.spent < key.limit
                    && key.calls.len() < 4;
                if works {
                    let cost = price.percent(1 + dice.below(100));
                    let seconds = i64::try_from(1 + dice.below(60)).unwrap();
                    key.calls.push((now + seconds, cost));
                    key.since_reading = key.since_reading.plus(cost);
                    let in_flight = key.calls.iter().map(|(_, cost)| *cost).sum();
                    key.most_in_flight = key.most_in_flight.max(in_flight);
                }
            }
        }
    }

    fn exact(&mut self, hash: &KeyHash) -> Reading {
        let resets_at = Window::at(self.reset, self.time()).end();
        let key = self.key(hash).expect("it is alive");
        key.since_reading = key.calls.iter().map(|(_, cost)| *cost).sum();
        Reading {
            spent: key.spent,
            limit: key.limit,
            resets_at,
        }
    }

    fn reported(&mut self, hash: &KeyHash) -> Option<Reading> {
        let (window, known) = (self.window().as_second(), self.now - self.lag);
        let key = self.key(hash)?;
        let seen = key
            .charges
            .iter()
            .filter(|(at, _)| *at <= known && *at >= window);
        Some(Reading {
            spent: seen.map(|(_, cost)| *cost).sum(),
            limit: key.limit,
            resets_at: None,
        })
    }
}

/// The engine: what is stored, and what a process knows.
struct Engine {
    budget: Budget,
    made: u64,
    /// When the work began.
    since: i64,
    stored: State,
}

#[derive(Clone)]
struct State {
    ledger: Ledger,
    current: KeyHash,
    superseded: Vec<(KeyHash, i64)>,
}

/// The process died, or another leader took over. The successor knows only what is stored.
struct Died;

struct Life {
    dice: Dice,
    model: Model,
    engine: Engine,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let resets = [LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly];
        let mut reset = Some(resets[usize::try_from(dice.below(3)).unwrap()]);
        if dice.once_in(8) {
            reset = None;
        }
        let now = 1_795_176_000 + i64::try_from(dice.below(40 * 86_400)).unwrap();
        let budget = Budget {
            amount: Amount::granted(100.0),
            reset,
        };
        let mut life = Self {
            model: Model {
                now,
                reset,
                lag: i64::try_from(dice.below(301)).unwrap(),
                keys: Vec::new(),
                late: Vec::new(),
                windows: Vec::new(),
                in_flight_of_deleted: Amount::ZERO,
                spent: Amount::ZERO,
                most_budget: budget.amount,
            },
            engine: Engine {
                budget,
                made: 0,
                since: now,
                stored: State {
                    ledger: Ledger::empty(&budget, Timestamp::from_second(now).unwrap()),
                    current: KeyHash::of(&SecretString::from("none")),
                    superseded: Vec::new(),
                },
            },
            dice,
        };
        let first = life.make(budget.amount);
        life.model.keys[0].is_handed_out = true;
        let (counting, now) = (life.counting(), life.model.time());
        life.engine.stored.ledger = Ledger::begun(&budget, counting, first.clone(), now);
        life.engine.stored.current = first;
        life
    }

    fn counting(&self) -> Counting {
        self.engine.budget.counting(false)
    }

    fn make(&mut self, limit: Amount) -> KeyHash {
        self.engine.made += 1;
        let hash = KeyHash::of(&SecretString::from(format!("key {}", self.engine.made)));
        let window = self.model.window();
        self.model.keys.push(Key {
            hash: hash.clone(),
            limit,
            spent: Amount::ZERO,
            window,
            charges: Vec::new(),
            calls: Vec::new(),
            most_in_flight: Amount::ZERO,
            since_reading: Amount::ZERO,
            is_handed_out: false,
            disabled: false,
        });
        hash
    }

    /// Between two effects, applications keep spending, and the process may die.
    fn between(&mut self) -> Result<(), Died> {
        let price = self.engine.budget.amount.percent(1).shared_by(2);
        self.model.spend(&mut self.dice, price);
        let seconds = i64::try_from(self.dice.below(2)).unwrap();
        self.model.pass(seconds);
        if self.dice.once_in(60) {
            Err(Died)
        } else {
            Ok(())
        }
    }

    /// Sends a limit call that was stored. It may be lost, take effect without an answer, or arrive late; its
    /// outcome then stays unclear.
    fn send(
        &mut self,
        state: &mut State,
        hash: &KeyHash,
        to: Amount,
        lags: bool,
    ) -> Result<bool, Died> {
        let (budget, counting, now) = (self.engine.budget, self.counting(), self.model.time());
        let begun = state.ledger.begin(hash, to, (&budget, counting), now);
        let Some(begun) = begun else {
            panic!("the ledger does not allow the call that it named");
        };
        self.engine.stored = state.clone();
        if let Err(died) = self.between() {
            // A deposed leader may still send it.
            if self.dice.once_in(2) {
                let at = self.model.now + i64::try_from(self.dice.below(90)).unwrap();
                self.model.late.push((at, hash.clone(), to));
            }
            return Err(died);
        }
        let now = self.model.time();
        match self.dice.below(25) {
            // The call is lost.
            0 => return Ok(false),
            1 => {
                let at = self.model.now + i64::try_from(self.dice.below(300)).unwrap();
                self.model.late.push((at, hash.clone(), to));
                return Ok(false);
            }
            2 => {
                state.ledger.refuse(begun);
                return Ok(false);
            }
            _ => {}
        }
        let old_current = &self.engine.stored.current.clone();
        let Some(key) = self.model.key(hash) else {
            state.ledger.release(hash);
            return Ok(true);
        };
        if to < key.limit && hash == old_current && !lags {
            key.most_in_flight = key.most_in_flight.max(key.since_reading);
        }
        key.limit = to;
        if self.dice.once_in(25) {
            return Ok(false);
        }
        let reading = self.model.reported(hash).expect("it is alive");
        state.ledger.confirm(begun, reading, lags, now);
        self.between()?;
        Ok(true)
    }

    /// As in `rotation::budget::divide`, followed by the switch.
    fn rotate(&mut self, is_emergency: bool) -> Result<(), Died> {
        let mut state = self.engine.stored.clone();
        let budget = self.engine.budget;
        let old = state.current.clone();
        let waits = state.ledger.rotation_waits_until(&old, self.model.time());
        if waits.is_some() && !is_emergency {
            return Ok(());
        }
        let (current, superseded) = (state.current.clone(), state.superseded.clone());
        let is_the_roles =
            |hash: &KeyHash| *hash == current || superseded.iter().any(|(own, _)| own == hash);
        for hash in state.ledger.left_over(is_the_roles) {
            if self.model.key(&hash).is_none() {
                state.ledger.release(&hash);
            }
        }
        let new = self.make(Amount::ZERO);
        self.between()?;
        state.ledger.add(new.clone(), self.counting());
        let may_rise = state
            .ledger
            .grant(&old)
            .is_some_and(super::ledger::Grant::may_rise);
        let mut divided = !may_rise;
        if divided {
            // If the key itself cannot be asked, reports replace the reading.
            let is_exact = !self.dice.once_in(10);
            let reading = if is_exact {
                self.model.exact(&old)
            } else {
                self.model.reported(&old).expect("it is alive")
            };
            state.ledger.read(&old, reading, self.model.time());
            self.between()?;
            let share = state
                .ledger
                .share_for(&old, &budget, reading.spent, !is_emergency);
            let grant = state.ledger.grant(&old).expect("it is the current one");
            divided = (is_emergency || !grant.may_rise_over(share))
                && self.send(&mut state, &old, share, !is_exact)?;
        }
        if divided || is_emergency {
            let rest = state.ledger.rest_for(&new, &budget);
            divided = self.send(&mut state, &new, rest, false)?;
        }
        if !divided && !is_emergency {
            // The key is rejected. If that fails too, the key is found later.
            if self.dice.once_in(2) {
                self.model.delete(|hash| *hash == new);
                state.ledger.release(&new);
            }
            self.engine.stored = state;
            return Ok(());
        }
        let grace = if is_emergency {
            0
        } else {
            i64::try_from(self.dice.below(50_000)).unwrap()
        };
        state.superseded.push((old, self.model.now + grace));
        if is_emergency {
            let now = self.model.now;
            state
                .superseded
                .iter_mut()
                .for_each(|(_, at)| *at = now.min(*at));
        }
        self.model.key(&new).expect("it is alive").is_handed_out = true;
        state.current = new;
        self.engine.stored = state;
        self.between()
    }

    /// As in `rotation::budget::end`.
    fn end_superseded(&mut self) -> Result<(), Died> {
        let settled = i64::try_from(SETTLED).unwrap();
        let mut state = self.engine.stored.clone();
        for (hash, revoke_at) in state.superseded.clone() {
            let Some(grant) = state.ledger.grant(&hash) else {
                self.model.delete(|deleted| *deleted == hash);
                state.superseded.retain(|(other, _)| *other != hash);
                self.engine.stored = state.clone();
                continue;
            };
            match grant.disabled_at {
                None if revoke_at <= self.model.now => {
                    self.model.key(&hash).expect("it is alive").disabled = true;
                    self.between()?;
                    state.ledger.disabled(&hash, self.model.time());
                    self.engine.stored = state.clone();
                }
                Some(at) if at.as_second() + settled <= self.model.now => {
                    let reading = self.model.reported(&hash).expect("it is alive");
                    self.between()?;
                    state
                        .ledger
                        .end(&hash, Some(reading.spent), self.model.time());
                    self.engine.stored = state.clone();
                    self.between()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// As in `rotation::budget::follow`, until there is nothing left to do.
    fn follow(&mut self) -> Result<(), Died> {
        for _ in 0..200 {
            let mut state = self.engine.stored.clone();
            let (budget, current) = (self.engine.budget, state.current.clone());
            let now = self.model.time();
            match state.ledger.next((&budget, self.counting()), &current, now) {
                Next::Wait(_) => return Ok(()),
                Next::Set(hash, to) => {
                    let lags = hash != current;
                    let done = self.send(&mut state, &hash, to, lags)?;
                    self.engine.stored = state;
                    if !done {
                        // Retried later.
                        return Ok(());
                    }
                    continue;
                }
                Next::Read(_) if self.dice.once_in(20) => return Ok(()),
                Next::CheckForReset(_) if self.dice.once_in(3) => return Ok(()),
                Next::Read(hash) => {
                    let since = Timestamp::from_second(self.engine.since).unwrap();
                    if state.ledger.is_inherited(&hash, since) {
                        state.ledger.inherit(&hash, since);
                    } else if hash == current {
                        let reading = self.model.exact(&hash);
                        state.ledger.read(&hash, reading, now);
                    } else if let Some(reading) = self.model.reported(&hash) {
                        state.ledger.read(&hash, reading, now);
                        state.ledger.retarget(&budget, &current);
                    } else {
                        state.ledger.release(&hash);
                    }
                }
                Next::CheckForReset(hash) => {
                    let reading = self.model.exact(&hash);
                    if state.ledger.has_rolled(&hash, reading, now) {
                        state.ledger.roll(&budget, &current, reading, now);
                    } else {
                        state.ledger.has_not_rolled(now);
                    }
                }
            }
            self.engine.stored = state;
            self.between()?;
        }
        panic!("there is no end of it: {:?}", self.engine.stored.ledger);
    }

    fn rebudget(&mut self) {
        let amount =
            Amount::granted(20.0 + f64::from(u32::try_from(self.dice.below(200)).unwrap()));
        self.engine.budget.amount = amount;
        self.model.most_budget = self.model.most_budget.max(amount);
        let (budget, now) = (self.engine.budget, self.model.time());
        let state = &mut self.engine.stored;
        state
            .ledger
            .rebudget(&budget, &state.current, Amount::ZERO, now);
    }

    fn step(&mut self, changes_budget: bool) {
        self.model.most_budget = self.model.most_budget.max(self.engine.budget.amount);
        let done = match self.dice.below(40) {
            0 | 1 => self.rotate(false),
            2 => self.rotate(true),
            3 if changes_budget => {
                self.rebudget();
                Ok(())
            }
            _ => Ok(()),
        };
        let done = done
            .and_then(|()| self.end_superseded())
            .and_then(|()| self.follow());
        if let Err(Died) = done {
            self.engine.since = self.model.now;
            // A key that no stored state contains is eventually found and deleted.
            if self.dice.once_in(3) {
                let state = &self.engine.stored;
                let is_known = |hash: &KeyHash| {
                    *hash == state.current || state.superseded.iter().any(|(own, _)| own == hash)
                };
                self.model.delete(|hash| !is_known(hash));
            }
        }
        let price = self.engine.budget.amount.percent(1).shared_by(2);
        for _ in 0..self.dice.below(16) {
            self.model.spend(&mut self.dice, price);
            let seconds = i64::try_from(1 + self.dice.below(60)).unwrap();
            self.model.pass(seconds);
        }
        let pause = match self.dice.below(4) {
            0 => 1 + self.dice.below(20),
            1 => 1 + self.dice.below(600),
            _ => 1 + self.dice.below(3_000),
        };
        let longer = match self.engine.budget.reset {
            Some(LimitReset::Weekly) if self.dice.once_in(2) => 12,
            Some(LimitReset::Monthly) if self.dice.once_in(2) => 50,
            _ => 1,
        };
        self.model.pass(i64::try_from(pause * longer).unwrap());
    }

    /// The total that the ledger counts against the budget.
    fn promised(&self) -> Amount {
        self.engine.stored.ledger.counted()
    }
}

/// Runs until this many windows have ended; a budget without a reset has only one.
fn live(seed: u64, windows: usize, changes_budget: bool) -> Vec<Outcome> {
    let mut life = Life::new(seed);
    let mut steps = 0;
    while life.model.windows.len() < windows {
        life.step(changes_budget);
        steps += 1;
        if life.engine.budget.reset.is_none() && steps == 400 {
            life.model.pass(120);
            life.model.close_window();
            break;
        }
        if steps == 4_000 {
            break;
        }
    }
    // The first window began before the role was created.
    std::mem::take(&mut life.model.windows)
}

#[test]
fn whatever_happens_a_window_spends_its_budget_and_what_is_in_flight_at_most() {
    play(500);
}

#[test]
#[ignore = "it takes a minute: cargo test --lib ten_thousand_windows -- --ignored --nocapture"]
fn ten_thousand_windows() {
    play(10_000);
}

/// Runs this many windows, in one life after another, and prints the results.
fn play(wanted: u32) {
    let (mut windows, mut seed) = (0_u32, 0);
    let (mut worst, mut sum, mut sum_over) = (f64::MIN, 0.0, 0.0);
    while windows < wanted {
        for outcome in live(seed, 25, false) {
            let over = outcome.spent.minus(outcome.budget);
            assert!(
                over <= outcome.in_flight,
                "seed {seed}: {} of {} spent, {} in flight at most",
                outcome.spent.as_usd(),
                outcome.budget.as_usd(),
                outcome.in_flight.as_usd()
            );
            let used = outcome.spent.as_usd() / outcome.budget.as_usd() * 100.0;
            worst = worst.max(used);
            sum += used;
            sum_over += (used - 100.0).max(0.0);
            windows += 1;
        }
        seed += 1;
    }
    let (mean, over) = (sum / f64::from(windows), sum_over / f64::from(windows));
    println!(
        "{windows} windows: {worst:.2} % of the budget spent at worst, {mean:.2} % on average; more \
         than the budget by {:.2} % of it at worst, {over:.2} % on average",
        (worst - 100.0).max(0.0)
    );
    assert!(
        mean > 60.0,
        "a budget that cannot be spent is no budget: {mean}"
    );
}

#[test]
fn a_budget_that_changes_is_never_exceeded_by_more_than_what_was_in_flight() {
    for seed in 0..20 {
        for outcome in live(1_000_000 + seed, 25, true) {
            let over = outcome.spent.minus(outcome.budget);
            assert!(
                over <= outcome.in_flight,
                "seed {seed}: {} of {} spent, {} in flight at most",
                outcome.spent.as_usd(),
                outcome.budget.as_usd(),
                outcome.in_flight.as_usd()
            );
        }
    }
}

#[test]
fn the_ledger_counts_no_more_than_the_budget_but_for_what_was_overshot() {
    let mut life = Life::new(7);
    for _ in 0..2_000 {
        life.step(false);
        let over = life.promised().minus(life.engine.budget.amount);
        let in_flight: Amount = life.model.keys.iter().map(|key| key.most_in_flight).sum();
        // The keys of an earlier window are gone, so this allows for a little more.
        let allowed = in_flight.plus(life.engine.budget.amount.percent(10));
        assert!(over <= allowed, "{over:?}: {:?}", life.engine.stored.ledger);
    }
}
