//! How rotation affects a monthly amount: three ways to set the limit of the new key, measured on the
//! simulator. The table and the plot in the documentation show the result; `scripts/compare-budgets` writes
//! them.

use std::fmt::Write as _;

use openrouter_simulator::{Account, KeyChanges, LimitReset, NewKey, Price};
use serde_json::json;

use crate::harness::{ROLE, ROTATE, World};

/// What a role may spend in a month, in US dollars.
const BUDGET: f64 = 100.0;
/// The price of a call: half a percent of that.
const PRICE: f64 = 0.5;
/// How many calls each key has in flight at a time.
const IN_FLIGHT: usize = 4;
/// How often the key is replaced in the month.
const ROTATIONS: [usize; 4] = [0, 1, 4, 12];

/// How the limit of a new key is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The same as that of the previous key: this engine's `limit`, and other products.
    Fresh,
    /// What the previous keys have left, known to the cent. These keep their limits.
    Remainder,
    /// `budget`.
    Budget,
}

impl Way {
    const ALL: [Self; 3] = [Self::Fresh, Self::Remainder, Self::Budget];

    fn title(self) -> &'static str {
        match self {
            Self::Fresh => "a fresh `limit` for each key",
            Self::Remainder => "the remainder for the new key",
            Self::Budget => "`budget`",
        }
    }
}

/// Applications with their keys, and their total spending.
struct Application {
    account: Account,
    spent: f64,
}

impl Application {
    /// Makes calls until this much was spent, or the key is refused.
    fn spend(&mut self, hash: &str, usd: f64) {
        let end = self.spent + usd;
        while self.spent < end {
            let calls = (0..IN_FLIGHT).map(|_| self.account.begin_call(hash, "some/model"));
            let calls: Vec<_> = calls.filter_map(Result::ok).collect();
            if calls.is_empty() {
                return;
            }
            for call in calls {
                self.spent += call.at_price(Price::usd(PRICE)).complete();
            }
        }
    }
}

/// Runs one month. A part of the budget is spent before each rotation. Afterwards every key is used until it
/// is refused. Returns the spending as a percentage of the budget.
async fn play(way: Way, rotations: usize) -> f64 {
    let world = World::connected().await;
    let mut role = json!({"rotation_period": "60d", "rotation_grace_period": "20d", "ttl": 300});
    let of_way = match way {
        Way::Budget => json!({"budget": BUDGET, "budget_reset": "monthly"}),
        Way::Fresh | Way::Remainder => json!({"limit": BUDGET, "limit_reset": "monthly"}),
    };
    let fields = role.as_object_mut().unwrap();
    fields.extend(of_way.as_object().unwrap().clone());
    world.write(ROLE, role).await.unwrap();
    world.quiet().await;
    let account = world.openrouter.account();
    let mut application = Application {
        account: account.clone(),
        spent: 0.0,
    };
    let mut keys = vec![newest(account)];
    for _ in 0..rotations {
        let spent = BUDGET / (rotations + 1) as f64 / 2.0;
        application.spend(keys.last().unwrap(), spent);
        world.pass(60).await;
        match way {
            Way::Fresh | Way::Budget => {
                world.write(ROTATE, json!({})).await.unwrap();
                keys.push(newest(account));
            }
            Way::Remainder => keys.push(remainder(account, &keys)),
        }
        world.quiet().await;
    }
    for hash in &keys {
        application.spend(hash, f64::INFINITY);
    }
    assert!(
        keys.iter()
            .all(|hash| account.begin_call(hash, "some/model").is_err())
    );
    application.spent / BUDGET * 100.0
}

fn newest(account: &Account) -> String {
    account.keys().last().unwrap().hash.clone()
}

/// A new key with the remaining amount as its limit.
fn remainder(account: &Account, keys: &[String]) -> String {
    let spent: f64 = keys
        .iter()
        .map(|hash| account.key(hash).unwrap().usage.total())
        .sum();
    let hash = account.create_key(NewKey::named("next")).hash;
    let limits = KeyChanges {
        limit: Some(Some(BUDGET - spent)),
        limit_reset: Some(Some(LimitReset::Monthly)),
        ..KeyChanges::default()
    };
    account.change_key(&hash, &limits).unwrap();
    hash
}

/// The spending of each way with each number of rotations.
async fn measured() -> Vec<(Way, Vec<f64>)> {
    let mut figures = Vec::new();
    for way in Way::ALL {
        let mut spent = Vec::new();
        for rotations in ROTATIONS {
            spent.push(play(way, rotations).await);
        }
        figures.push((way, spent));
    }
    figures
}

fn table(figures: &[(Way, Vec<f64>)]) -> String {
    let mut table = "| rotations in the month |".to_owned();
    for rotations in ROTATIONS {
        write!(table, " {rotations} |").unwrap();
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(ROTATIONS.len()));
    for (way, spent) in figures {
        write!(table, "\n| {} |", way.title()).unwrap();
        for percent in spent {
            write!(table, " {percent:.0} % |").unwrap();
        }
    }
    table
}

/// The same as a bar chart.
fn plot(figures: &[(Way, Vec<f64>)]) -> String {
    const HEIGHT: f64 = 260.0;
    let most = figures.iter().flat_map(|(_, spent)| spent);
    let most = most.fold(100.0_f64, |most, percent| most.max(*percent));
    let y = |percent: f64| 40.0 + HEIGHT * (1.0 - percent / most);
    let colors = ["#c2410c", "#b45309", "#15803d"];
    let mut svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 370\" \
                   font-family=\"sans-serif\" font-size=\"13\">\n\
                   <title>What is spent of a monthly budget of 100 %, by rotations in the month</title>\n\
                   <rect width=\"720\" height=\"370\" fill=\"#ffffff\"/>\n"
        .to_owned();
    for (number, (way, _)) in figures.iter().enumerate() {
        let x = 60 + number * 225;
        let title = way.title().replace('`', "");
        let color = colors[number];
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{color}\"/>\
             <text x=\"{}\" y=\"21\">{title}</text>",
            x + 18
        )
        .unwrap();
    }
    for (group, rotations) in ROTATIONS.iter().enumerate() {
        let noun = if *rotations == 1 {
            "rotation"
        } else {
            "rotations"
        };
        for (number, (_, spent)) in figures.iter().enumerate() {
            let (x, top) = (70 + group * 165 + number * 44, y(spent[group]));
            let color = colors[number];
            writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{top:.1}\" width=\"38\" height=\"{:.1}\" fill=\"{color}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
                y(0.0) - top,
                x + 19,
                top - 4.0,
                spent[group]
            )
            .unwrap();
        }
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\">{rotations} {noun}</text>",
            70 + group * 165 + 63,
            y(0.0) + 20.0
        )
        .unwrap();
    }
    let budget = y(100.0);
    writeln!(
        svg,
        "<line x1=\"50\" x2=\"710\" y1=\"{budget:.1}\" y2=\"{budget:.1}\" stroke=\"#111111\" \
         stroke-dasharray=\"4 3\"/><text x=\"8\" y=\"{:.1}\">100 %</text>\n\
         <text x=\"360\" y=\"355\" text-anchor=\"middle\">spent in the month, as a percentage of what \
         the role was meant to spend</text>\n</svg>",
        budget + 4.0
    )
    .unwrap();
    svg
}

const PAGE: &str = "docs/budgets.md";
const PLOT: &str = "docs/budgets.svg";
const BEGIN: &str = "<!-- scripts/compare-budgets writes this table -->\n\n";
const END: &str = "\n\n<!-- to here -->";

#[tokio::test]
async fn the_comparison_in_the_documentation_is_what_is_measured() {
    let root = env!("CARGO_MANIFEST_DIR");
    let figures = measured().await;
    for (way, spent) in &figures {
        // For each key, what is in flight when it is lowered or refused.
        let in_flight = 100.0 + PRICE * (IN_FLIGHT * (1 + ROTATIONS[3])) as f64;
        let most = spent
            .iter()
            .fold(0.0_f64, |most, percent| most.max(*percent));
        assert_eq!(most <= in_flight, *way == Way::Budget, "{way:?}: {spent:?}");
    }
    let (table, plot) = (table(&figures), plot(&figures));
    let page = std::fs::read_to_string(format!("{root}/{PAGE}")).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for it");
    let (shown, after) = rest.split_once(END).expect("and its end");
    if std::env::var_os("UPDATE_COMPARISON").is_some() {
        println!("{table}");
        let page = format!("{before}{BEGIN}{table}{END}{after}");
        std::fs::write(format!("{root}/{PAGE}"), page).unwrap();
        std::fs::write(format!("{root}/{PLOT}"), plot).unwrap();
        return;
    }
    assert_eq!(shown, table, "run scripts/compare-budgets");
    let drawn = std::fs::read_to_string(format!("{root}/{PLOT}")).unwrap();
    assert_eq!(drawn, plot, "run scripts/compare-budgets");
}
