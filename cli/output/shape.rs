//! How records become rows: the columns of a kind of record, and the table they make.
//!
//! A record is anything serde can write. Its JSON comes from serde alone; the columns here are only for
//! people, so that a table may leave out or join fields without a change of the JSON.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::foreign::{columns, cut, harmless};
use super::tone::{Paint, Tone};

/// Spaces between two columns.
const GAP: usize = 3;
/// The same where the terminal is too narrow.
const GAP_NARROW: usize = 2;
/// No column of words is cut to less: what is left would say nothing.
const CUT_WIDTH_MIN: usize = 8;

/// How records of one kind are shown to people.
pub(crate) struct Shape<T: 'static> {
    /// From left to right.
    pub(crate) columns: &'static [Column<T>],
    /// What `--format name` prints of a record.
    pub(crate) name: fn(&T) -> String,
    /// What is said (on standard error) instead of an empty table: `no runs`.
    pub(crate) none: &'static str,
}

/// One column.
pub(crate) struct Column<T> {
    /// Its title, in capitals.
    pub(crate) header: &'static str,
    /// What it shows of a record.
    pub(crate) field: fn(&T) -> Field,
}

impl<T> Column<T> {
    /// A column, for tables of columns in a `const`.
    pub(crate) const fn new(header: &'static str, field: fn(&T) -> Field) -> Column<T> {
        Column { header, field }
    }
}

/// What stands in one column of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    text: String,
    tone: Tone,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Field {
    /// Text in a tone.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Field {
        Field { text: text.into(), tone, side: Side::Left }
    }

    /// A number, on the right of its column.
    pub(crate) fn number(number: impl ToString) -> Field {
        Field { text: number.to_string(), tone: Tone::Plain, side: Side::Right }
    }

    /// The same without anything that a terminal would obey.
    fn harmless(field: Field) -> Field {
        Field { text: harmless(&field.text), ..field }
    }

    /// Nothing known: `–`.
    pub(crate) fn none() -> Field {
        Field::toned("–", Tone::Faint)
    }

    /// The text, or `–` where there is none.
    pub(crate) fn or_none(text: Option<impl Into<String>>) -> Field {
        text.map_or_else(Field::none, |text| Field::from(text.into()))
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field::toned(text, Tone::Plain)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        Field::from(text.to_owned())
    }
}

/// All records as a table with a line of titles. Where a line would be wider than `width` columns, the widest
/// texts and titles are cut, numbers and what stands in the first column never; what still does not fit is left
/// out from the right (JSON has it all).
pub(crate) fn table_of<T>(records: &[T], shape: &Shape<T>, paint: Paint, width: Option<usize>) -> String {
    let fields_of = |record: &T| -> Vec<Field> {
        shape.columns.iter().map(|column| Field::harmless((column.field)(record))).collect()
    };
    let rows: Vec<Vec<Field>> = records.iter().map(fields_of).collect();
    let layout = Layout::of(shape, &rows, width.unwrap_or(usize::MAX));
    let mut table = bare_table(paint);
    let titles = shape.columns.iter().zip(&layout.widths);
    let titles = titles.map(|(column, width)| painted(cut(column.header, *width), Tone::Strong));
    table.set_header(titles.collect::<Vec<Cell>>());
    for row in rows {
        let row = row.into_iter().zip(&layout.widths);
        table.add_row(row.map(|(field, width)| cell(Field { text: cut(&field.text, *width), ..field })));
    }
    laid_out(table, layout.gap)
}

/// The columns that are shown and how wide, and the spaces between two.
struct Layout {
    widths: Vec<usize>,
    gap: usize,
}

impl Layout {
    fn of<T>(shape: &Shape<T>, rows: &[Vec<Field>], room: usize) -> Layout {
        let mut widths: Vec<usize> = shape.columns.iter().map(|column| columns(column.header)).collect();
        let mut least: Vec<usize> = widths.iter().map(|width| CUT_WIDTH_MIN.min(*width)).collect();
        for row in rows {
            for (place, field) in row.iter().enumerate() {
                let whole = columns(&field.text);
                widths[place] = widths[place].max(whole);
                let kept =
                    if place == 0 || field.side == Side::Right { whole } else { whole.min(CUT_WIDTH_MIN) };
                least[place] = least[place].max(kept);
            }
        }
        let line = |widths: &[usize], gap: usize| {
            widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1)
        };
        if line(&widths, GAP) <= room {
            return Layout { widths, gap: GAP };
        }
        while widths.len() > 1 && line(&least, GAP_NARROW) > room {
            widths.pop();
            least.pop();
        }
        let mut excess = line(&widths, GAP_NARROW).saturating_sub(room);
        while excess > 0 {
            let shrinkable = (0..widths.len()).filter(|place| widths[*place] > least[*place]);
            let Some(widest) = shrinkable.max_by_key(|place| widths[*place]) else { break };
            widths[widest] -= 1;
            excess -= 1;
        }
        Layout { widths, gap: GAP_NARROW }
    }
}

/// One record, a line per column.
pub(crate) fn card_of<T>(record: &T, shape: &Shape<T>, paint: Paint) -> String {
    let mut table = bare_table(paint);
    for column in shape.columns {
        let title = format!("{}:", column.header.to_lowercase());
        let field = Field { side: Side::Left, ..Field::harmless((column.field)(record)) };
        table.add_row(vec![painted(title, Tone::Faint), cell(field)]);
    }
    laid_out(table, GAP)
}

fn bare_table(paint: Paint) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    match paint {
        Paint::Plain => table.force_no_tty(),
        Paint::Coloured => table.enforce_styling(),
    };
    table.style_text_only();
    table
}

fn laid_out(mut table: Table, gap: usize) -> String {
    let last = table.column_count().saturating_sub(1);
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if place == last { 0 } else { gap as u16 }));
    }
    table.trim_fmt()
}

fn cell(field: Field) -> Cell {
    let alignment = match field.side {
        Side::Left => CellAlignment::Left,
        Side::Right => CellAlignment::Right,
    };
    painted(field.text, field.tone).set_alignment(alignment)
}

/// The table crate measures and paints by itself, so it gets its own words for a tone.
fn painted(text: String, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
        Tone::Warn => cell.fg(Color::DarkYellow),
        Tone::Busy => cell.fg(Color::DarkCyan),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
        Tone::Strong => cell.add_attribute(Attribute::Bold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pet {
        name: &'static str,
        legs: u32,
        owner: Option<&'static str>,
    }

    const PETS: Shape<Pet> = Shape {
        columns: &[
            Column::new("NAME", |pet| pet.name.into()),
            Column::new("LEGS", |pet| Field::number(pet.legs)),
            Column::new("OWNER", |pet| Field::or_none(pet.owner)),
        ],
        name: |pet| pet.name.to_owned(),
        none: "no pets",
    };

    fn pets() -> Vec<Pet> {
        vec![
            Pet { name: "日本", legs: 4, owner: None },
            Pet { name: "\u{1b}[31mbird\u{1b}[0m\n", legs: 12, owner: Some("ann") },
        ]
    }

    #[test]
    fn a_table_is_aligned_and_has_no_borders() {
        insta::assert_snapshot!(table_of(&pets(), &PETS, Paint::Plain, None), @r"
        NAME    LEGS   OWNER
        日本       4   –
        bird      12   ann
        ");
    }

    #[test]
    fn a_table_is_cut_to_the_terminal_where_there_are_words() {
        let owner = "somebody with a long name";
        let pets = [Pet { name: "a bird with a name", legs: 12, owner: Some(owner) }];
        let table = table_of(&pets, &PETS, Paint::Plain, Some(40));
        insta::assert_snapshot!(table, @r"
        NAME                LEGS  OWNER
        a bird with a name    12  somebody with…
        ");
        assert!(table.lines().all(|line| columns(line) <= 40));
        let narrow = table_of(&pets, &PETS, Paint::Plain, Some(30));
        assert_eq!(narrow.lines().last(), Some("a bird with a name    12"), "{narrow}");
    }

    #[test]
    fn a_card_has_a_line_per_column() {
        insta::assert_snapshot!(card_of(&pets()[1], &PETS, Paint::Plain), @r"
        name:    bird
        legs:    12
        owner:   ann
        ");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let painted = table_of(&pets(), &PETS, Paint::Coloured, None);
        let lines: Vec<String> = anstream::adapter::strip_str(&painted)
            .to_string()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        assert_ne!(painted, table_of(&pets(), &PETS, Paint::Plain, None));
        assert_eq!(lines.join("\n"), table_of(&pets(), &PETS, Paint::Plain, None));
    }
}
