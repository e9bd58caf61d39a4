//! Templates as they stand in a file: with the place of every name in them.
//!
//! What a template is and how it is rendered is in `template`; which names may stand where is for
//! those who read the file to say (`agent_file`, `workflow`).

use std::ops::Range;

use indexmap::IndexMap;

use crate::diagnostic::SourceText;
use crate::template::{Expression, NameUse, Template, TemplateError};
use crate::yaml::{Node, Scalar, YamlReader};

/// A text with `<< >>`, or an expression, and the names it reads.
#[derive(Debug, Clone)]
pub struct TemplateText {
    /// The text as written, after YAML.
    pub scalar: Scalar,
    /// Its bytes in the file.
    pub place: Range<usize>,
    /// What it reads; spans count in the text.
    pub names: Vec<NameUse>,
}

impl TemplateText {
    /// The text.
    pub fn text(&self) -> &str {
        &self.scalar.text
    }

    /// Where in the file a range of bytes of the text stands.
    pub fn place_of(&self, source: &SourceText, range: Range<usize>) -> Range<usize> {
        self.scalar.place_of(source.text(), &self.place, range)
    }
}

/// A text with `<< >>` in it.
pub(crate) fn read_template(reader: &mut YamlReader<'_>, key: &str, node: &Node) -> Option<TemplateText> {
    reader.text(key, node)?;
    let scalar = node.scalar()?;
    match Template::parse(&scalar.text) {
        Ok(template) => {
            for suspicion in template.suspicions() {
                report_template(reader, node, scalar, suspicion);
            }
            Some(template_text(node, scalar, template.names()))
        }
        Err(error) => {
            report_template(reader, node, scalar, &error);
            None
        }
    }
}

/// One expression, with or without `<< >>` around it.
pub(crate) fn read_expression(reader: &mut YamlReader<'_>, key: &str, node: &Node) -> Option<TemplateText> {
    reader.text(key, node)?;
    let scalar = node.scalar()?;
    match Expression::parse_bare_or_marked(&scalar.text) {
        Ok(expression) => Some(template_text(node, scalar, expression.names())),
        Err(error) => {
            report_template(reader, node, scalar, &error);
            None
        }
    }
}

/// Every text of a value that reads a name.
pub(crate) fn read_templates(reader: &mut YamlReader<'_>, key: &str, node: &Node) -> Vec<TemplateText> {
    let texts = node.scalars().into_iter().filter(|(_, scalar)| !scalar.is_null());
    let read: Vec<_> = texts.filter_map(|(node, _)| read_template(reader, key, node)).collect();
    read.into_iter().filter(|text| !text.names.is_empty()).collect()
}

fn template_text(node: &Node, scalar: &Scalar, names: &[NameUse]) -> TemplateText {
    TemplateText { scalar: scalar.clone(), place: node.place.clone(), names: names.to_vec() }
}

fn report_template(reader: &mut YamlReader<'_>, node: &Node, scalar: &Scalar, error: &TemplateError) {
    let place = scalar.place_of(reader.source.text(), &node.place, error.span.clone());
    let problem = reader.source.error(place, error.message.as_str());
    reader.problems.push(match &error.hint {
        Some(hint) => problem.hint(hint.as_str()),
        None => problem,
    });
}

/// Names and texts for an environment.
pub(crate) fn read_env(reader: &mut YamlReader<'_>, node: &Node) -> IndexMap<String, TemplateText> {
    let mut values = IndexMap::new();
    for entry in reader.entries("env", node) {
        if !is_env_name(&entry.key) {
            let message = format!("`{}` is not the name of an environment variable", entry.key);
            let problem = reader.source.error(entry.key_place.clone(), message);
            reader
                .problems
                .push(problem.hint("it has letters, digits and `_`, and does not begin with a digit"));
            continue;
        }
        if let Some(text) = read_template(reader, &entry.key, &entry.value) {
            values.insert(entry.key.clone(), text);
        }
    }
    values
}

/// Whether a text can be the name of an environment variable everywhere.
pub(crate) fn is_env_name(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    starts_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
